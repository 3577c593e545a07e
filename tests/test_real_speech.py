"""scripts/real-speech: its readers of packages, on packages of a few bytes."""

import io
import struct
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest
from support.launch import ROOT
from support.scripts import load_script

SCRIPT = ROOT / "scripts/real-speech"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("real-speech")


def write_package(path: Path, members: dict[str, bytes]) -> Path:
    """Write a Debian package with these files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": packed.getvalue()}
    with path.open("wb") as file:
        file.write(b"!<arch>\n")
        for name, content in parts.items():
            file.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode())
            file.write(content + b"\n" * (len(content) % 2))
    return path


def line_of(number: int, text: str) -> bytes:
    """A line of a dialogue."""
    content = struct.pack(">hhB", 0, number, len(text)) + text.encode()
    return content + b"\0" * (-len(content) % 4)


def game_data() -> bytes:
    """A data file of the game, with a dialogue of two heroic lines and one other line."""
    heroic = line_of(0, "Hi there.*06How are you?*03") + line_of(
        30, "Pistol.*XY123456789Gun?*GDYes."
    )
    other = line_of(30, "*01Fine.*15")
    closing = b"\4Bye.\0" + b"\6See...\0"
    head = bytearray(32)
    struct.pack_into(">h2xhhh", head, 0, -1, 7, 2, 1)
    begin = 32 + 96
    struct.pack_into(">H", head, 22, begin + len(heroic))
    struct.pack_into(">H", head, 26, begin + len(heroic) + len(other))
    dialogue = bytes(20) + bytes(head) + bytes(96) + heroic + other + closing
    names = ["07SSSSJ1", "07SSSSJ2", "07001EJ1", "07001EJ2", "07001EP2", "07XXXXP1", "07XXXXJ1"]
    files = {"BOB2.DOG": dialogue, **{f"{name}.SB": name.encode() for name in names}}
    table, content, begin = b"", b"", 15 + 21 * len(files)
    for name, data in files.items():
        table += struct.pack(">12sBII", name.encode(), 0, begin + len(content), len(data))
        content += data
    return bytes(13) + struct.pack(">H", len(files)) + table + content


TEXTS = {
    "joe/07SSSSJ1": "Hi there.",
    "joe/07SSSSJ2": "How are you?",
    "joe/07001EJ1": "Pistol.",
    "joe/07001EJ2": "Gun?Yes.",
    "bob/07001EP2": "Fine.",
    "bob/07XXXXP1": "Bye.",
    "joe/07XXXXJ1": "See...",
}


def test_the_clips_of_the_game_have_their_texts(script: ModuleType, tmp_path: Path) -> None:
    package = write_package(tmp_path / "queen.deb", {"./usr/queen.1c": game_data()})
    clips = list(script.read_queen(script.read_package(package)))
    assert {name: text for name, _, _, text in clips} == TEXTS
    assert all(content.decode() == name.split("/")[1] for name, content, _, _ in clips)
    count = script.write_clips(
        script.SETS["amazon-queen"], script.read_package(package), tmp_path / "out"
    )
    assert count == len(TEXTS)
    assert (tmp_path / "out/bob/07001EP2.txt").read_text() == "Fine.\n"
    assert (tmp_path / "out/bob/07001EP2.mp3").read_bytes() == b"07001EP2"


def test_the_prompts_of_asterisk_have_their_texts(script: ModuleType) -> None:
    members = {
        "./usr/share/doc/core-sounds-it.txt": (
            b"; a comment\nhello: Ciao.\ndigits/1: uno\nbeep: [tono]\n"
        ),
        "./usr/share/sounds/it/hello.wav": b"1",
        "./usr/share/sounds/it/digits/1.wav": b"2",
        "./usr/share/sounds/it/beep.wav": b"3",
        "./usr/share/sounds/it/other.wav": b"4",
    }
    assert list(script.read_asterisk(members)) == [
        ("speaker/hello", b"1", ".wav", "Ciao."),
        ("speaker/digits_1", b"2", ".wav", "uno"),
    ]


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({"./usr/other": b"odd"}, "no queen.1c in it"),
        ({"./usr/queen.1c": b""}, ""),
        ({"./usr/queen.1c": game_data()[:200]}, ""),
    ],
)
def test_a_package_with_other_content_is_refused_in_one_line(
    tmp_path: Path, members: dict[str, bytes], fault: str
) -> None:
    package = write_package(tmp_path / "x.deb", members)
    words = ["amazon-queen", "--deb", package, "--folder", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, SCRIPT, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    start = "scripts/real-speech: flight-of-the-amazon-queen: its recordings cannot be read: "
    assert done.stderr.startswith(start + fault)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_damaged_bytes_of_a_package_are_no_traceback(script: ModuleType, tmp_path: Path) -> None:
    members = {"./usr/queen.1c": game_data() + bytes(range(256)) * 20}
    whole = write_package(tmp_path / "x.deb", members).read_bytes()
    refused = 0
    for place in range(200, len(whole), 7):
        changed = bytearray(whole)
        changed[place] ^= 0x55
        (tmp_path / "x.deb").write_bytes(changed)
        try:
            script.read_package(tmp_path / "x.deb")
        except script.UserError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("content", [b"", b"no archive", b"!<arch>\nbroken"])
def test_another_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.deb").write_bytes(content)
    words = ["amazon-queen", "--deb", tmp_path / "x.deb", "--folder", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, SCRIPT, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"scripts/real-speech: {tmp_path}/x.deb: cannot be read as a Deb")
    assert done.stderr.count("\n") == 1
