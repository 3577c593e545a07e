"""Text files as editors on any system write them: every reader of a user's text file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import asdict
from support.clusters import COMPUTE, NETWORK
from support.studies import result

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import write_csv
from gtcbmuf.bench.figures import Figure, read_figures, write_figures
from gtcbmuf.cluster import sbatch
from gtcbmuf.cluster.plan import Plan
from gtcbmuf.cluster.profile import VERSION, ClusterProfile, read_profile, write_profile
from gtcbmuf.config.loading import load_config
from gtcbmuf.data.importing.text_lines import read_lines
from gtcbmuf.studies.measured_speed_ups import read_measured_speed_ups
from gtcbmuf.studies.preset_files import read_preset
from gtcbmuf.studies.results import read_results

PLAN = Plan(COMPUTE, NETWORK, parameters=5, minibatch=256, density=0.5, period=50)


@dataclass
class Kind:
    """A kind of text file: its name, a function that writes one, and its reader."""

    name: str
    write: Callable[[Path], Any]
    read: Callable[[Path], Any]


def write_preset(path: Path) -> None:
    cells = '[[cells]]\nmethod = "sgd"\nworkers = 1\ntried = [["train.epochs=2"]]\n'
    path.write_text(f'[corpus]\npreset = "tiny"\nhours = 0.5\n\n{cells}')


def write_speed_ups(path: Path) -> None:
    settings = {"parameters": 5, "minibatch": 256, "density": 0.5, "period": 50}
    measured = {"method": "gtc", "workers": 4, "measured": 2.5, "measured_on": "host"}
    write_csv(path, [measured | settings])


KINDS = [
    Kind(
        "run.toml",
        lambda path: path.write_text("[train]\nepochs = 3\n"),
        lambda path: load_config(str(path)),
    ),
    Kind("preset.toml", write_preset, lambda path: read_preset(str(path))),
    Kind(
        "cluster.toml",
        lambda path: write_profile(path, ClusterProfile(VERSION, "given", network=NETWORK)),
        read_profile,
    ),
    Kind(
        "results.csv",
        lambda path: write_csv(path, [asdict(result("gtc", 4, 1, 9.5))]),
        read_results,
    ),
    Kind("speedup_table.csv", write_speed_ups, lambda path: read_measured_speed_ups(path, PLAN)),
    Kind(
        "figures.json",
        lambda path: write_figures(path, [Figure("step", 2.0, 1.0, 3.0, "s")]),
        read_figures,
    ),
    Kind(
        "train.sbatch",
        lambda path: path.write_text("#!/bin/bash\n"),
        lambda path: sbatch.read_template(path),
    ),
    Kind("list", lambda path: path.write_text("s01\ns02\n"), lambda path: list(read_lines(path))),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_byte_order_marks_and_line_ends_are_ignored(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / kind.name
    kind.write(path)
    expected, content = kind.read(path), path.read_bytes()
    assert expected
    path.write_bytes(b"\xef\xbb\xbf" + content)
    assert kind.read(path) == expected
    path.write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))
    assert kind.read(path) == expected
    for encoding in ("utf-16", "utf-16-be"):
        mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
        path.write_bytes(mark + content.decode().encode(encoding))
        with pytest.raises(UserError, match=f"{path}: .*it is in UTF-16; convert it") as error_info:
            kind.read(path)
        assert "\n" not in str(error_info.value)
