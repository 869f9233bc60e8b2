"""Mistakes of the user: one line instead of a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.config import Config


class UsageError(ValueError):
    """A mistake of the user; its message is all that need be printed."""


@contextmanager
def mistakes_in_one_line(cfg: Config) -> Iterator[None]:
    """Treat errors in building what a config describes as the user's.

    With log_level='DEBUG' in the config they keep their traceback.

    Raises:
        UsageError: In place of a ValueError, OSError or ImportError, or an
            AssertionError with a message, as mmseg raises them.
    """
    try:
        yield
    except (ValueError, OSError, ImportError, AssertionError) as error:
        if (
            isinstance(error, UsageError)
            or not str(error)
            or cfg.get('log_level') == 'DEBUG'
        ):
            raise
        raise UsageError(f'{error} (log_level=DEBUG shows where)') from error
