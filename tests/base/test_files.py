"""Where a result can be written, checked before it is computed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gtcbmuf.base.errors import UserError
from gtcbmuf.base.files import check_output


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("folder", "--out {}: a folder; expected a file"),
        ("file/new", "--out {}: cannot be written: {folder}/file is not a folder"),
        ("file/deep/new", "--out {}: cannot be written: {folder}/file is not a folder"),
        ("read", "--out {}: this file is read; expected another one"),
        ("link", "--out {}: this file is read; expected another one"),
        ("n" * 300, "--out {}: cannot be written: File name too long"),
        ("", "--out {}: a folder; expected a file"),
    ],
)
def test_a_place_that_cannot_take_a_result_is_refused(
    tmp_path: Path, name: str, fault: str
) -> None:
    (tmp_path / "folder").mkdir()
    for file in ("file", "read"):
        (tmp_path / file).touch()
    (tmp_path / "link").symlink_to("read")
    path = tmp_path / name
    with pytest.raises(UserError) as raised:
        check_output(path, "--out", [None, tmp_path / "missing", tmp_path / "read"])
    assert str(raised.value) == fault.format(path, folder=tmp_path)


def test_the_file_that_output_goes_to_is_refused(tmp_path: Path) -> None:
    code = "from gtcbmuf.base.files import *; check_output(Path('{}'), '--out')"
    for name, fault in {"a.log": "this command's output goes there", "/dev/stdout": ""}.items():
        with (tmp_path / "a.log").open("w") as log:
            command = [sys.executable, "-c", code.format(name)]
            done = subprocess.run(command, stdout=log, stderr=-1, cwd=tmp_path, text=True)
        assert (done.returncode == 0) == (not fault)
        assert fault in done.stderr


@pytest.mark.parametrize("name", ["new", "file", "new/deep/file"])
def test_any_other_place_is_taken_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("a")
    (tmp_path / "read").touch()
    check_output(tmp_path / name, "--out", [tmp_path / "read"])
    assert sorted(os.listdir(tmp_path)) == ["file", "read"]
    assert (tmp_path / "file").read_text() == "a"


def test_a_path_without_a_name_is_refused() -> None:
    with pytest.raises(UserError, match=r"--out \.: expected a file"):
        check_output(Path(), "--out")
