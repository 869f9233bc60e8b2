"""Unpickle weights, and leave out the other objects beside them.

Training frameworks put settings into their checkpoints: OmegaConf's dicts,
argparse's namespaces, classes of the user's project. Each of these becomes a
`LeftOut`, which does nothing, and its module is never imported.
"""

import builtins
import logging
import pickle
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from typing import Any

from mmengine.logging import print_log

from .rebuild import REBUILT, Rebuilt

# Modules of Python that hold settings. A checkpoint that wants any other
# function of Python's, such as os.system, is an attack and is refused.
_SETTINGS = frozenset(
    'argparse collections datetime decimal enum fractions functools pathlib '
    'types typing uuid'.split()
)
# All that weights need of NumPy is in `REBUILT`.
_REFUSED = sys.stdlib_module_names - _SETTINGS | {'numpy'}


class LeftOut:
    """An object that was not read: it takes any state and forgets it."""

    def __new__(cls, *args: Any, **kwargs: Any) -> 'LeftOut':
        """Make one of any arguments."""
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take any arguments."""

    def __setstate__(self, state: Any) -> None:
        """Take any state."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Take any item."""

    def extend(self, items: Any) -> None:
        """Take any items."""

    append = add = extend


# In Python, not in C: there a few bytes can ask for gigabytes of memory.
_PythonUnpickler: Any = pickle._Unpickler


class WeightsUnpickler(_PythonUnpickler):
    """Read numbers and plain values; call nothing but what rebuilds them."""

    left_out: set[str]  # each subclass begins with an empty one

    def allowed(self) -> dict[str, Any]:
        """Return what may be called, by name."""
        return REBUILT

    def find_class(self, module: str, name: str) -> Any:
        """Return an allowed function, or a class of objects to leave out.

        Raises:
            UnpicklingError: It is part of Python, and no weights need it.
        """
        # Pickles of protocol 2 have Python 2's names.
        module, name = NAME_MAPPING.get((module, name), (module, name))
        module = IMPORT_MAPPING.get(module, module)
        full_name = f'{module}.{name}'
        allowed = self.allowed()
        if full_name in allowed:
            return allowed[full_name]
        is_type = isinstance(getattr(builtins, name, None), type)
        if module.partition('.')[0] in _REFUSED and not (
            module == 'builtins' and is_type
        ):
            raise pickle.UnpicklingError(f'GLOBAL {full_name}')
        self.left_out.add(full_name)
        return type(name, (LeftOut,), {})

    def load_build(self) -> None:
        """Give an object its state, if that can have no other effect."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, (LeftOut, Rebuilt)):
            target.__setstate__(state)
        elif type(target) is not OrderedDict:  # whose notes are lost
            raise pickle.UnpicklingError(
                f'a state for an object of {type(target).__name__}'
            )

    dispatch = {**_PythonUnpickler.dispatch, pickle.BUILD[0]: load_build}


def printable(name: str) -> str:
    """Return a name from a file so that it stays in its line.

    >>> printable('conv1'), printable('a\\nb')
    ('conv1', 'a\\\\nb')
    """
    return name if name.isprintable() else ascii(name)[1:-1]


def report_left_out(source: object, names: set[str], limit: int = 5) -> None:
    """Say which objects of a file were left out, in one line."""
    if names:
        more = f' and {len(names) - limit} more' if len(names) > limit else ''
        print_log(
            f'{source}: only its weights were read, not its objects of '
            f'{", ".join(map(printable, sorted(names)[:limit]))}{more}.',
            'current',
            level=logging.WARNING,
        )
