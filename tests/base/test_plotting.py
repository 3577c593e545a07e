"""Pictures: independent of the user's settings of matplotlib, and written whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.plotting import picture, svg_element

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


def test_an_earlier_picture_stays_until_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "fer.png"
    with picture(path, 3, 2) as axes:
        axes.plot([1, 2], [3, 4])
    before = path.read_bytes()
    program = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from gtcbmuf.base.plotting import picture\n"
        "with picture(Path(sys.argv[1]), 30, 20, '--plot') as axes:\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, timeout=100
    )
    assert f"UserError: --plot {path}: cannot be drawn: File too large" in done.stderr
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["fer", "fer.foo", "fer.pgf", ".png"])
def test_an_unknown_suffix_is_refused_before_the_drawing(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    fault = r"cannot be drawn: suffix '.*'; expected .*png"
    with pytest.raises(UserError, match=fault), picture(path, 3, 2):
        pytest.fail("drawn")
    assert not path.exists()
