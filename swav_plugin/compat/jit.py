"""Compile functions of numbers and arrays where numba is installed."""

from collections.abc import Callable
from typing import Any, TypeVar

_Function = TypeVar('_Function', bound=Callable)

NO_NUMBA: str | None = None  # why there is no numba, where there is none
NO_CACHE: str | None = None  # why machine code is not kept, where it is not
try:
    from numba import config, njit

    if getattr(config, 'DISABLE_JIT', 0):
        NO_NUMBA = 'NUMBA_DISABLE_JIT is set'
# OSError: its compiler is broken; also where it is too old for this NumPy.
except (ImportError, OSError) as error:
    NO_NUMBA = str(error)


def jit(function: _Function) -> _Function:
    """Compile a function at its first call, once for an installation.

    The machine code is kept beside the source, or in the user's cache folder
    where that cannot be written to. Without numba the function stays as it
    is: the same results, at Python's speed.
    """
    if NO_NUMBA is not None:
        return function
    return _compile(function)


def _compile(function: Any) -> Any:
    """Compile with numba, and keep the machine code if there is a place."""
    global NO_CACHE
    # nogil: threads can run it side by side. error_model: x / 0 is infinite,
    # which leaves loops without branches.
    options: Any = dict(nogil=True, error_model='numpy')
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError as error:
        NO_CACHE = str(error)
        return njit(**options)(function)
