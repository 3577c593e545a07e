"""A small run directory of a finished run, for tests of its readers."""

import json
from pathlib import Path
from typing import Any

SUMMARY: dict[str, Any] = {
    "method": "gtc",
    "workers": 4,
    "groups": 2,
    "fer_test": 40.0,
    "per_test": 20.0,
    "frames_per_second": 12345.6,
    "bytes_sent_per_step": 67890.0,
    "density": 0.01,
}
ENVIRONMENT: dict[str, Any] = {
    "command": ["gtcbmuf", "train", "gtc"],
    "started": "2026-01-02T03:04:05+0000",
    "python": "3.11.7",
    "packages": {"numpy": "2.4.6"},
    "threads": [{"internal_api": "openblas", "version": "0.3", "num_threads": 1}],
    "commit": "0123456789abcdef",
    "dirty": False,
    "mpi": "MPICH Version:      5.0.2\nMPICH Release date: unknown",
    "hosts": {"node1": {"cores": 4}},
    "host_of_rank": ["node1"] * 4,
    "corpus": "sha256 of one",
    "resumed": [{"command": ["gtcbmuf"], "started": "2026", "epoch": 1, "step": 7}],
}
METRICS: list[dict[str, Any]] = [
    {
        "epoch": epoch,
        "fer_valid": 60.0 / epoch,
        "loss": 3.0 / epoch,
        "tau": [4.0, 5.0],
        "density": 0.01,
        "bytes_sent_per_step": 67890.0,
        "seconds_by_part": {"compute": {"min": 1.0, "mean": 2.0, "max": 3.0}},
    }
    for epoch in (1, 2)
]
#: Content of the JSON files by name.
FILES: dict[str, Any] = {
    "summary.json": SUMMARY,
    "environment.json": ENVIRONMENT,
    "metrics.jsonl": METRICS,
}


def write_run(path: Path, **contents: Any) -> None:
    """Write a run directory. `contents` replaces the content of files, by name."""
    path.mkdir(exist_ok=True)
    for name, content in (FILES | contents).items():
        lines = content if name == "metrics.jsonl" else [content]
        (path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (path / "config.toml").write_text("[train]\nepochs = 2\n")
