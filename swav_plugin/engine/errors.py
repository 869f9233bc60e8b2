"""Mistakes of the user: one line instead of a traceback."""

import difflib
import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry


class UsageError(ValueError):
    """A mistake of the user; its message is all that need be printed."""


@contextmanager
def mistakes_in_one_line(cfg: Config) -> Iterator[None]:
    """Treat errors in building what a config describes as the user's.

    With log_level='DEBUG' in the config they keep their traceback.

    Raises:
        UsageError: Instead of a ValueError, OSError or ImportError, an
            AssertionError with a message, as mmseg raises them, or any error
            of a class that is built from the config: it says where in the
            config that is, and for an unknown type or argument which one was
            probably meant.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, UsageError) or cfg.get('log_level') == 'DEBUG':
            raise
        hint = ' (log_level=DEBUG shows where)'
        if isinstance(
            error, (ValueError, OSError, ImportError, AssertionError)
        ):
            if not str(error):
                raise
            raise UsageError(f'{error}{hint}') from error
        built = _what_was_built(error.__traceback__)
        if built is None:
            raise
        message = _explain(error, cfg, **built)
        raise UsageError(f'{message}{hint}') from error


def _what_was_built(traceback: TracebackType | None) -> dict | None:
    """Return what mmengine was building where an error comes from."""
    built = None
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_code.co_name == 'build_from_cfg' and (
            'registry' in frame.f_locals
        ):
            names = frame.f_locals
            built = dict(
                part=names['cfg'],
                registry=names['registry'],
                cls=names.get('obj_cls'),
            )
        traceback = traceback.tb_next
    return built


def _explain(
    error: Exception, cfg: Config, part: Any, registry: Registry, cls: Any
) -> str:
    """Say what is wrong with a part of a config, and where that is."""
    name = part.get('type') if isinstance(part, Mapping) else None
    path = _find_part(cfg._cfg_dict, part) if name else ''
    where = path or 'the config'
    if cls is None:
        return (
            f"{where}: there is no '{name}'"
            f'{_did_you_mean(str(name), _names(registry))}'
        )
    name = getattr(cls, '__name__', name)
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if isinstance(error, TypeError) and unknown:
        return (
            f"{where}: {name} has no argument '{unknown[1]}'"
            f'{_did_you_mean(unknown[1], arguments_of(cls))}'
        )
    text = str(error.args[0] if error.args else error)
    return f'{where}: {name}: {text or type(error).__name__}'


def arguments_of(cls: Any) -> set[str]:
    """Return the arguments of a class, with those that its bases take."""
    return {
        argument
        for base in getattr(cls, '__mro__', (cls,))
        if base is not object
        for argument in inspect.signature(base).parameters
    }


def _find_part(node: Any, part: Mapping, above: str = '') -> str:
    """Return the dotted path of a part of a config; '' if it is not there.

    The part may have been given more arguments since.
    """
    if isinstance(node, Mapping):
        if node.get('type') == part.get('type') and {*node} <= {
            *part,
            '_scope_',
            '_delete_',
        }:
            return above.rstrip('.')
        items = [*node.items()]
    elif isinstance(node, (list, tuple)):
        items = [*enumerate(node)]
    else:
        return ''
    for key, child in items:
        found = _find_part(child, part, f'{above}{key}.')
        if found:
            return found
    return ''


def _names(registry: Registry) -> set[str]:
    """Return the names in a registry and those that it falls back on."""
    names: set[str] = set()
    found: Registry | None = registry
    while found is not None:
        names |= {*found.module_dict}
        found = found.parent
    return names


def _did_you_mean(name: str, known: set[str]) -> str:
    """Return '; did you mean ...?' if there are close names."""
    close = difflib.get_close_matches(name, known, cutoff=0.7)
    return f'; did you mean {", ".join(close)}?' if close else ''
