"""Numba's cache of compiled kernels, without which a program can do.

Numba raises an exception if its cache is damaged, cannot be written, or has no folder. With this
cache the kernels are then compiled anew, and `take_fault` tells why.
"""

# mypy: disable-error-code="no-untyped-call"

import hashlib
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    InTreeCacheLocator,
    UserProvidedCacheLocator,
    UserWideCacheLocator,
)
from numba.core.serialize import dumps

from gtcbmuf.base.files import reason


@dataclass(frozen=True)
class CacheFault:
    """A fault of the cache. Its text is one line.

    Attributes:
        state: what is wrong, and what follows from it.
        remedy: what to do about it.
    """

    state: str
    remedy: str = "set NUMBA_CACHE_DIR to a folder that can be written"

    def __str__(self) -> str:
        return f"{self.state}; {self.remedy}"


#: The first fault of this process, and whether `take_fault` has returned it.
_faults: list[CacheFault] = []
_taken = False


def attach_cache(compiled: Any) -> None:
    """Let a Numba dispatcher load its kernel from the cache, and save it there.

    Args:
        compiled: what `numba.njit` returns. With NUMBA_DISABLE_JIT=1 it is a plain function.
    """
    if not hasattr(compiled, "enable_caching"):
        return
    wanted = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    unusable = f"NUMBA_CACHE_DIR={wanted} cannot be written" if wanted else ""
    try:
        cache = KernelCache(compiled.py_func)
    except RuntimeError:  # no folder can be written
        where = unusable or "no folder for Numba's cache can be written"
        _record(CacheFault(f"{where}: the kernels are compiled at each start"))
        return
    compiled._cache = cache
    if wanted and not cache.is_in_wanted_folder:
        _record(CacheFault(f"{unusable}: Numba's cache is in {cache.cache_path}"))


def take_fault() -> CacheFault | None:
    """Return the first fault of this process's cache, once."""
    global _taken
    if _taken or not _faults:
        return None
    _taken = True
    return _faults[0]


def cache_folder(compiled: Any) -> Path | None:
    """Return the folder of a kernel's cache, if the kernel has a cache."""
    path = compiled.stats.cache_path if hasattr(compiled, "stats") else None
    return Path(path) if path else None


def _record(fault: CacheFault) -> None:
    if not _faults:
        _faults.append(fault)


class _HomeLocator(UserWideCacheLocator):
    """A folder in the user's home. Without a home, Numba would create a folder called "~" here."""

    @classmethod
    def from_function(cls, function: Any, file: str) -> Any:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~")
        return super().from_function(function, file) if os.path.isabs(cache) else None


class _Entries(CompileResultCacheImpl):
    """Entries with a digest. Numba would run a damaged entry, or one of an earlier source."""

    _locator_classes = [UserProvidedCacheLocator, InTreeCacheLocator, _HomeLocator]  # noqa: RUF012

    def get_filename_base(self, fullname: str, abiflags: str) -> str:
        # Files of another name than Numba's, which have no digest.
        return f"digest-{super().get_filename_base(fullname, abiflags)}"

    def reduce(self, data: Any) -> tuple[bytes, bytes]:
        content: bytes = dumps(super().reduce(data))
        return self._digest(content), content

    def rebuild(self, target_context: Any, payload: tuple[bytes, bytes]) -> Any:
        digest, content = payload
        if digest != self._digest(content):
            raise ValueError("the entry does not match its digest")
        return super().rebuild(target_context, pickle.loads(content))

    def _digest(self, content: bytes) -> bytes:
        return hashlib.sha256(repr(self.locator.get_source_stamp()).encode() + content).digest()


class KernelCache(FunctionCache):
    """A cache that records its faults instead of raising them."""

    _impl_class = _Entries

    @property
    def is_in_wanted_folder(self) -> bool:
        """Whether the cache is in the folder that NUMBA_CACHE_DIR names."""
        return isinstance(self._impl.locator, UserProvidedCacheLocator)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load a compiled kernel. None: it has to be compiled."""
        try:
            return super().load_overload(sig, target_context)
        except OSError as error:
            self._record("cannot be read", error)
        except Exception:  # a damaged pickle may raise anything
            state = f"Numba's cache in {self.cache_path} was damaged: it is compiled anew"
            _record(CacheFault(state, "NUMBA_CACHE_DIR sets another folder"))
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save a compiled kernel, in place of a damaged one."""
        try:
            try:
                super().save_overload(sig, data)
            except OSError:
                raise
            except Exception:  # a damaged index
                self.flush()
                super().save_overload(sig, data)
        except OSError as error:
            self._record("cannot be written", error)

    def _record(self, fault: str, error: OSError) -> None:
        where = f"Numba's cache in {self.cache_path} {fault}: {reason(error)}"
        _record(CacheFault(f"{where}: the kernels are compiled at each start"))
