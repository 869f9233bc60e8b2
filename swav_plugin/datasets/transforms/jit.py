"""Compile functions of numbers and arrays where numba is installed."""
from collections.abc import Callable
from typing import TypeVar

_Function = TypeVar('_Function', bound=Callable)

try:
    import numba
except ImportError:
    numba = None

HAS_NUMBA = numba is not None


def jit(function: _Function) -> _Function:
    """Compile a function at its first call, once for an installation.

    The machine code is kept beside the source, or in the user's cache folder
    where that cannot be written to. Without numba the function stays as it
    is: the same results, at Python's speed.
    """
    if numba is None:
        return function
    # nogil: threads can run it side by side. error_model: x / 0 is infinite,
    # which leaves loops without branches.
    compile_it = numba.njit(cache=True, nogil=True, error_model='numpy')
    return compile_it(function)
