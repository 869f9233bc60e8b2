"""Compile functions of numbers and arrays where numba is installed."""

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
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

    The machine code is kept in the user's cache folder, for a checkout beside
    the source, or in the other one where that cannot be written to. Without
    numba the function stays as it is: the same results, at Python's speed.
    """
    if NO_NUMBA is not None:
        return function
    return _compile(function)


def _compile(function: Any) -> Any:
    """Compile with numba and, where possible, keep the machine code."""
    global NO_CACHE
    # numba keeps machine code until the file of the function changes, but it
    # compiles in functions and constants of other files. So the code is kept
    # under a name that changes with any of them.
    folder = Path(function.__code__.co_filename).parent
    function.__qualname__ += f'_{_digest(folder)}'
    # nogil: threads can run it side by side. error_model: x / 0 is infinite,
    # which leaves loops without branches.
    options: Any = dict(nogil=True, error_model='numpy')
    settings: Any = config
    given = settings.CACHE_DIR
    settings.CACHE_DIR = given or _cache_of_installed(folder)
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError as error:
        NO_CACHE = str(error)
        return njit(**options)(function)
    finally:
        settings.CACHE_DIR = given


def _cache_of_installed(folder: Path) -> str:
    """Return where to keep machine code of an installed package, else ''.

    pip does not remove what it has not written. A folder with nothing but
    machine code would be left, and hide a checkout that is installed next.
    """
    if not {'site-packages', 'dist-packages'} & {*folder.parts}:
        return ''
    caches = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    return os.path.join(caches, 'numba') if os.path.isabs(caches) else ''


@functools.cache
def _digest(folder: Path) -> str:
    """Return a hash of the files in a folder that have compiled functions."""
    sources = [path.read_bytes() for path in sorted(folder.glob('*.py'))]
    compiled = [source for source in sources if b'compat.jit' in source]
    return hashlib.sha256(b''.join(compiled)).hexdigest()[:12]
