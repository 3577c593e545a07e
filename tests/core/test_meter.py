"""The meter's seconds, by a clock that the test moves."""

import contextlib

import pytest

from gtcbmuf.core.meter import Meter


def test_a_block_within_a_block_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    meter = Meter()
    for _ in range(2):
        with meter.time("compute"):
            now += 1
            with meter.time("read"):
                now += 2
            with meter.time("encode"), meter.time("read"):
                now += 4
            now += 8
        with meter.time("filter"):
            now += 16
    assert meter.seconds == {
        "read": 12,
        "compute": 18,
        "encode": 0,
        "filter": 32,
        "communicate": 0,
        "decode": 0,
    }
    with contextlib.suppress(ValueError), meter.time("decode"):
        now += 32
        raise ValueError
    assert (meter.part, meter.seconds["decode"]) == ("", 32)
    meter.reset()
    assert not any(meter.seconds.values())
