"""Counts what a worker does in an epoch: seconds by part, bytes, updates."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

PARTS = ("compute", "encode", "communicate", "decode", "filter")


class Meter:
    """What one worker did since `reset`.

    Attributes:
        seconds: of each part of PARTS.
        bytes_sent: the payload that this worker handed to MPI for others, both tiers together,
            before whatever forwarding a collective does with it.
        updates_sent: parameters whose update was sent to the group, summed over the steps.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start again from zero."""
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.bytes_sent = 0
        self.updates_sent = 0

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        """Add the seconds of a `with` block to a part."""
        begin = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - begin
