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

from swav_plugin.checkpoints.file_kind import CheckpointError
from swav_plugin.registry import type_name

from .walk import walk_config

# What mmengine's functions that build from a config call the class.
_CLASS_VARIABLE = dict(
    build_from_cfg='obj_cls', build_scheduler_from_cfg='scheduler_cls'
)


class UsageError(ValueError):
    """A mistake of the user; its message is all that need be printed."""


class DiskFull(UsageError):
    """A checkpoint could not be saved; a later one may be."""


@contextmanager
def mistakes_in_one_line(cfg: Config) -> Iterator[None]:
    """Treat errors in building what a config describes as the user's.

    With log_level='DEBUG' in the config they keep their traceback.

    Raises:
        CheckpointError: As it is.
        UsageError: Instead of a ValueError, OSError or ImportError, an
            AssertionError with a message, as mmseg raises them, or any error
            of a class that is built from the config: it says where in the
            config that is, and for an unknown type or argument which one was
            probably meant.
    """
    try:
        yield
    except Exception as error:
        is_told = isinstance(error, (UsageError, CheckpointError))
        if is_told or cfg.get('log_level') == 'DEBUG':
            raise
        hint = ' (log_level=DEBUG shows where)'
        built = _what_was_built(error.__traceback__)
        if isinstance(
            error, (ValueError, OSError, ImportError, AssertionError)
        ):
            if not str(error):
                raise
            # Our own classes name themselves.
            name = getattr(built and built['cls'], '__name__', None)
            if name is None or name in str(error):
                raise UsageError(f'{error}{hint}') from error
        if built is None:
            raise
        message = _explain(error, cfg, **built)
        raise UsageError(f'{message}{hint}') from error


def check_type(cfg: Config, part: Mapping, registry: Registry) -> None:
    """Check that there is something of the type of a part of a config.

    Raises:
        UsageError: There is not; says where that is, and what is similar.
    """
    name = part.get('type')
    if isinstance(name, str) and registry.get(name) is None:
        raise UsageError(_no_such_type(cfg, part, name, registry))


def _no_such_type(
    cfg: Config, part: Mapping, name: str, registry: Registry
) -> str:
    """Say that there is nothing of this name."""
    where = (
        _find_part(cfg, part)
        or _find_part(cfg, dict(type=name))
        or 'the config'
    )
    close = _did_you_mean(name, _registered_names(registry))
    return f"{where}: there is no '{name}'{close}"


def _what_was_built(traceback: TracebackType | None) -> dict | None:
    """Return what mmengine was building where an error comes from."""
    built = None
    while traceback is not None:
        frame = traceback.tb_frame
        if (
            frame.f_code.co_name in _CLASS_VARIABLE
            and 'registry' in frame.f_locals
        ):
            names = frame.f_locals
            built = dict(
                part=names['cfg'],
                registry=names['registry'],
                cls=names.get(_CLASS_VARIABLE[frame.f_code.co_name]),
            )
        traceback = traceback.tb_next
    return built


def _explain(
    error: Exception, cfg: Config, part: Any, registry: Registry, cls: Any
) -> str:
    """Say what is wrong with a part of a config, and where that is."""
    name = part.get('type') if isinstance(part, Mapping) else None
    path = _find_part(cfg, part) if name else ''
    where = path or 'the config'
    if cls is None and name is None:
        return f'{where}: there is no type: {part!r}'
    if cls is None:
        return _no_such_type(cfg, part, str(name), registry)
    layer = _layer_that_is_not_there(error)
    if layer is not None:
        return _no_such_type(cfg, *layer)
    name = getattr(cls, '__name__', name)
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if isinstance(error, TypeError) and unknown:
        return (
            f"{where}: {name} has no argument '{unknown[1]}'"
            f'{_did_you_mean(unknown[1], arguments_of(cls))}'
        )
    text = str(error.args[0] if error.args else error)
    return f'{where}: {name}: {text or type(error).__name__}'


def _layer_that_is_not_there(
    error: Exception,
) -> tuple[dict, str, Registry] | None:
    """Return the config, type and registry of a layer that mmcv looked for.

    For norm_cfg, conv_cfg, act_cfg and their like: mmcv's message does not
    say which name it looked for.
    """
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None or 'Cannot find None' not in str(error):
        return None
    names = traceback.tb_frame.f_locals
    for name, value in names.items():
        if name.endswith('_type') and isinstance(value, str):
            return dict(type=value), value, names['registry']
    return None


def arguments_of(cls: Any) -> set[str]:
    """Return the arguments of a class, with those that its bases take."""
    return {
        argument
        for base in getattr(cls, '__mro__', (cls,))
        if base is not object
        for argument in inspect.signature(base).parameters
    }


def _find_part(cfg: Config, part: Mapping) -> str:
    """Return the dotted path of a part of a config; '' if it is not there.

    The part may have been given more arguments since, or none but its type.
    """
    for keys, node in walk_config(cfg._cfg_dict):
        if (
            isinstance(node, Mapping)
            and type_name(node.get('type')) == type_name(part.get('type'))
            and (
                {*part} == {'type'}
                or {*node} <= {*part, '_scope_', '_delete_'}
            )
        ):
            return '.'.join(keys)
    return ''


def _registered_names(registry: Registry) -> set[str]:
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
