"""Pictures do not depend on the user's settings of matplotlib."""

import os
import subprocess
import sys
from pathlib import Path

from gtcbmuf.base.plotting import svg_element

DRAW = "svg_element('loss', 3, 2, lambda axes: axes.plot([1, 2], [3, 4], label='FER'))"


def test_a_display_and_a_matplotlibrc_of_the_user_change_no_picture(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\naxes.grid: True\n")
    settings = {
        "MATPLOTLIBRC": str(tmp_path),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # in Jupyter's terminal
    }
    program = f"from gtcbmuf.base.plotting import svg_element; print({DRAW}, end='')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == eval(DRAW, {"svg_element": svg_element})
