"""Signals that ask this process to stop: it remembers them until it can stop in good order."""

import atexit
import os
import signal
from contextlib import suppress
from types import FrameType


def stop_kinds() -> list[signal.Signals]:
    """Return the signals that ask to stop. SIGHUP, of a closed terminal, is none under nohup."""
    kinds = [signal.SIGUSR1, signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        kinds.append(signal.SIGHUP)
    return kinds


def end_on_signals() -> None:
    """Make SIGTERM and SIGHUP end this process by an exception, so that `finally` tidies up.

    SIGHUP does nothing under nohup. A process that waits in MPI would not see its exception, so use
    this only without other ranks.
    """
    for kind in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(kind) == signal.SIG_DFL:
            signal.signal(kind, _end)


def _end(number: int, frame: FrameType | None) -> None:
    for kind in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(kind, lambda *_: None)  # while `finally` tidies up
    with suppress(OSError):  # the terminal is gone
        os.write(2, f"gtcbmuf: stopped by {signal.Signals(number).name}\n".encode())
    raise SystemExit(128 + number)


class StopSignals:
    """Remembers whether SIGUSR1, SIGTERM, SIGINT or SIGHUP asked this process to stop.

    A second SIGINT ends the process at once. SIGHUP does nothing under nohup. Use an object of this
    class in a `with` statement. It takes over the signal that the process already remembers, if
    any.

    Examples:
        >>> import os
        >>> with StopSignals() as outer:
        ...     os.kill(os.getpid(), signal.SIGUSR1)
        ...     with StopSignals() as inner:
        ...         inner.number == outer.number == signal.SIGUSR1
        True
    """

    def __init__(self) -> None:
        #: Number of the first signal; 0 if there was none.
        self.number = 0

    def __enter__(self) -> "StopSignals":
        self._handlers = {kind: signal.signal(kind, self._note) for kind in stop_kinds()}
        for handler in self._handlers.values():
            outer = getattr(handler, "__self__", None)
            if isinstance(outer, StopSignals):
                self.number = self.number or outer.number
        return self

    def __exit__(self, *_: object) -> None:
        for kind, handler in self._handlers.items():
            signal.signal(kind, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = self.number or number


def remember_stop_signals() -> None:
    """Remember the signals from now on to the end of this process, for later `StopSignals`.

    Call this before MPI starts. MPICH takes SIGUSR1 for itself, and passes the signal on only to a
    handler that it replaces. A SIGUSR1 while the process exits does not change its status.
    """
    StopSignals().__enter__()
    atexit.register(signal.signal, signal.SIGUSR1, signal.SIG_IGN)
