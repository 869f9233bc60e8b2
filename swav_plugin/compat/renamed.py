"""Arguments renamed since 0.1.0: the old names work, and warn."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

_Init = TypeVar('_Init', bound=Callable)


def renamed_arguments(**new_names: str) -> Callable[[_Init], _Init]:
    """Let an `__init__` take arguments by their old names, with a warning.

    An old name wins over the new one: it then comes from a config of the last
    version that changes something in one of ours.

    Args:
        new_names: New name of each argument, by its old one.

    >>> class Crop:
    ...     @renamed_arguments(scale='size')
    ...     def __init__(self, size):
    ...         self.size = size
    >>> Crop(scale=224).size
    224
    """

    def decorate(init: _Init) -> _Init:
        @functools.wraps(init)
        def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
            for old, new in new_names.items():
                if old in kwargs:
                    warnings.warn(
                        f'{type(self).__name__}({old}=...) is now {new}=...; '
                        'the old name goes in the next version.',
                        DeprecationWarning,
                        stacklevel=2,
                    )
                    kwargs[new] = kwargs.pop(old)
            init(self, *args, **kwargs)

        return wrapper  # type: ignore[return-value]

    return decorate
