"""Load a config, change it as the command line says and find mistakes in it.

What users get wrong most often is caught here, before anything slow starts.
"""

import difflib
import inspect
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import Registry
from mmengine.runner import Runner

from swav_plugin import registry
from swav_plugin.compat.stack import downstream_hint
from swav_plugin.shipped import find_config

from .channels import check_channels
from .default_hooks import (
    MMENGINE_HOOKS,
    OUR_HOOKS,
    check_default_hooks,
    current_name,
    describe_hooks,
    find_lost_hooks,
    replace_default_hooks,
)
from .errors import UsageError, arguments_of
from .new_style import name_types
from .walk import walk_config

# What Runner, its loops and the config reader look up in a config.
_RUNNER_KEYS = frozenset(inspect.signature(Runner.__init__).parameters) - {
    'self',
    'cfg',
} | {
    'activation_checkpointing',
    'compile',
    'custom_imports',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'sync_bn',
}

# Dicts in which mmengine overlooks a key that it does not know. All others
# end up as arguments of a class, which refuses such a key.
_KNOWN_KEYS: dict[str, Collection[str]] = {
    '': _RUNNER_KEYS,
    'auto_scale_lr': ('enable', 'base_batch_size'),
    'default_hooks': (*MMENGINE_HOOKS, *OUR_HOOKS),
    'env_cfg': ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'),
    'optim_wrapper.paramwise_cfg': (
        'custom_keys',
        'bias_lr_mult',
        'bias_decay_mult',
        'norm_decay_mult',
        'dwconv_decay_mult',
        'flat_decay_mult',
        'bypass_duplicate',
        'dcn_offset_lr_mult',
    ),
}

# What AmpOptimWrapper takes.
_DTYPES = (None, 'float16', 'bfloat16', 'float32', 'float64')

# Messages about hooks that are in `default_hooks` since version 0.2.
_NAMES_OUR_HOOKS = re.compile(
    rf'custom_hooks|default_hooks\.({"|".join(OUR_HOOKS)})'
)

# Those of the dicts above in which any unknown key is an error.
_CLOSED = ('auto_scale_lr', 'env_cfg', 'optim_wrapper.paramwise_cfg')


def load_config(
    path: str, options: Sequence[str] = (), notes: list[str] | None = None
) -> Config:
    """Read a config, change it as asked and refuse misspelt keys.

    Args:
        path: The config file, or the name of one that is shipped.
        options: 'KEY=VALUE' each, as after ``--cfg-options``.
        notes: A list that gets what the log should say.

    Raises:
        UsageError: The file or one of its bases is missing or cannot be
            read, an option does not fit the config, or a key looks misspelt.
    """
    notes = [] if notes is None else notes
    cfg = read_config(path, notes)
    change_config(cfg, options, notes)
    return cfg


def read_config(path: str, notes: list[str]) -> Config:
    """Read a config, and the hooks of one of version 0.1 as they were meant.

    First half of `load_config`; see there.
    """
    cfg = _read_file(path)
    notes += find_lost_hooks(cfg, str(cfg.filename))
    notes += replace_default_hooks(cfg)
    return cfg


def change_config(
    cfg: Config, options: Sequence[str], notes: list[str]
) -> None:
    """Change a config as asked and refuse misspelt keys.

    Second half of `load_config`; see there. May be called again.
    """
    changes = {}
    renamed = []
    try:
        for key, value in parse_options(options).items():
            new = current_name(cfg, key)
            if new != key:
                renamed.append(
                    f'--cfg-options {key} is now {new}; the old name goes in '
                    'the next version.'
                )
            _check_option(cfg, new)
            changes[new] = value
        cfg.merge_from_dict(changes)
        check_keys(cfg)
    except UsageError as error:
        if not _NAMES_OUR_HOOKS.search(str(error)):
            raise
        # What was moved may be why the option does not fit.
        raise UsageError(' -- '.join([str(error), *notes])) from error
    check_channels(cfg)
    notes += renamed
    cfg.setdefault('default_scope', 'swav_plugin')
    if 'val_cfg' in cfg and cfg.val_cfg is None:
        # One key turns validation off; the Runner wants all three.
        cfg.val_dataloader = cfg.val_evaluator = None
    for name, hook in [*(cfg.get('default_hooks') or {}).items()]:
        if hook is None and name not in MMENGINE_HOOKS:
            del cfg.default_hooks[name]  # mmengine only lets its own be None
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg.get(name) or {}
        if loader.get('num_workers') == 0:
            # Without workers torch refuses these, which are about them.
            loader.pop('persistent_workers', None)
            loader.pop('prefetch_factor', None)


def check_has(cfg: Config, *keys: str) -> None:
    """Check that a config has the dicts that a command needs.

    Raises:
        UsageError: Names the first one that is missing.
    """
    for key in keys:
        if not isinstance(cfg.get(key), Mapping):
            what = f'{key}={cfg[key]!r}' if cfg.get(key) else f'no {key}'
            raise UsageError(
                f'{cfg.filename} has {what}; this command needs a dict '
                f'named {key}'
            )


def _read_file(path: str) -> Config:
    """Read a config file; say what is wrong if that fails."""
    try:
        path = str(find_config(path))
    except FileNotFoundError as error:
        raise UsageError(str(error)) from None
    if Path(path).suffix not in ('.py', '.yml', '.yaml', '.json'):
        raise UsageError(
            f'{path} is not a config, which ends in .py; are the arguments '
            'in the right order?'
        )
    try:
        return name_types(Config.fromfile(path))
    except FileNotFoundError as error:
        raise UsageError(f'{path} builds on a missing config: {error}')
    except yaml.YAMLError as error:
        reason = ' '.join(str(error).split())
        raise UsageError(
            f'{path} or its base is not YAML of plain values: {reason}'
        ) from error
    except ModuleNotFoundError as error:
        raise UsageError(
            f'{path} builds on a package that is not installed: {error}; for '
            f'mmdet and mmseg: {downstream_hint()}'
        )
    except Exception as error:  # a config is code: anything may go wrong
        raise UsageError(f'{path} cannot be read: {error!r}') from error


def parse_options(options: Sequence[str]) -> dict[str, Any]:
    """Turn 'KEY=VALUE' strings into keys and values, as mmengine does.

    Unlike there, a value without commas keeps its spaces.

    Raises:
        UsageError: One has no '='.

    >>> parse_options(['a.b=1e-3', 'c=[2, 6]', 'd=/my photos'])
    {'a.b': 0.001, 'c': [2, 6], 'd': '/my photos'}
    """
    parsed = {}
    for option in options:
        key, equals, value = option.partition('=')
        if not key or not equals:
            raise UsageError(
                f"--cfg-options takes KEY=VALUE, but got '{option}'"
            )
        is_text = ' ' in value and ',' not in value
        parsed[key] = (
            value.strip('\'"')
            if is_text
            else DictAction._parse_iterable(value)
        )
    return parsed


def _check_option(cfg: Config, key: str) -> None:
    """Raise if `key` ('a.b.0.c') would change nothing or cannot be set."""
    node: Any = cfg._cfg_dict
    parts = key.split('.')
    for depth, part in enumerate(parts):
        above = '.'.join(parts[:depth])
        if isinstance(node, (list, tuple)):
            if not part.isdigit() or int(part) >= len(node):
                message = (
                    f"--cfg-options {key}: '{above}' has {len(node)} "
                    f"entries, numbered from 0; there is no '{part}'"
                )
                if above == 'custom_hooks':
                    message += f'; the hooks are {describe_hooks(cfg)}'
                raise UsageError(message)
            node = node[int(part)]
        elif not isinstance(node, Mapping):
            raise UsageError(
                f"--cfg-options {key}: '{above}' is {node!r} and has no "
                f"'{part}'; give it as a whole"
            )
        elif part in node:
            node = node[part]
        else:
            _check_new_key(key, part, node, depth == 0)
            break
    if len(parts) == 1 and key not in _RUNNER_KEYS:
        # Only what the Runner reads counts, not other variables.
        paths = [
            '.'.join(keys)
            for keys, _ in walk_config(cfg._cfg_dict)
            if len(keys) > 1 and keys[0] in _RUNNER_KEYS and keys[-1] == key
        ]
        if paths:
            raise UsageError(
                f"--cfg-options {key}: '{key}' is a variable that only the "
                'config file reads. Set it where it is used: '
                f'{", ".join(paths)}'
            )


def _check_new_key(key: str, part: str, node: Mapping, is_top: bool) -> None:
    """Raise if `part` of the option `key` is not one to add to `node`."""
    known = {*node} | (_RUNNER_KEYS if is_top else set())
    if key.startswith('optim_wrapper.') and key.count('.') == 1:
        known |= arguments_of(AmpOptimWrapper)  # --amp may come, too
    else:
        known |= _arguments_of_type(node.get('type'))
    match = _near_miss(part, known)
    if match is not None:
        raise UsageError(
            f"--cfg-options {key}: unknown key '{part}'; "
            f"did you mean '{match}'?"
        )
    if is_top and part not in known:
        raise UsageError(f"--cfg-options {key}: the config has no '{part}'")
    if key.startswith('custom_hooks.') and is_top:
        raise UsageError(
            f'--cfg-options {key}: the config has no custom_hooks; set a hook '
            f'by its name: {describe_hooks(node)}'
        )


def _arguments_of_type(name: Any) -> set[str]:
    """Return the arguments of the class of this name, in any registry."""
    if not isinstance(name, str):
        return set()
    for found in vars(registry).values():
        if isinstance(found, Registry) and found.get(name) is not None:
            return arguments_of(found.get(name))
    return set()


def check_keys(cfg: Config) -> None:
    """Refuse misspelt keys where mmengine would overlook them.

    A config may hold variables of its own, so a key at the top is refused
    only when it is nearly a key that the Runner knows.

    Raises:
        UsageError: Names the key and what was probably meant.
    """
    for where, known in _KNOWN_KEYS.items():
        node: Any = cfg._cfg_dict
        for part in where.split('.') if where else ():
            node = node.get(part) or {}
        for key in node:
            match = _near_miss(key, known)
            dot = f'{where}.' if where else ''
            if match is not None:
                raise UsageError(
                    f"unknown config key '{dot}{key}': did you "
                    f"mean '{dot}{match}'?"
                )
            if where in _CLOSED and key not in known:
                raise UsageError(
                    f"unknown config key '{dot}{key}': {where} "
                    f'takes {", ".join(known)}'
                )
    _check_optimizer((cfg.get('optim_wrapper') or {}).get('optimizer') or {})
    check_default_hooks(cfg)


def _check_optimizer(optimizer: Mapping) -> None:
    """Raise where mmengine would only say that None is not callable."""
    name = optimizer.get('type')
    if isinstance(name, str) and '.' not in name:
        if registry.OPTIMIZERS.get(name) is None:
            known = {*registry.OPTIMIZERS.module_dict, *dir(torch.optim)}
            close = difflib.get_close_matches(name, known)
            raise UsageError(
                f"optim_wrapper.optimizer.type: there is no '{name}'"
                + (f'; did you mean {", ".join(close)}?' if close else '')
            )


def _near_miss(key: str, known: Collection[str]) -> str | None:
    """Return the known key that `key` misspells, if it seems to."""
    if key in known:
        return None
    for match in difflib.get_close_matches(key, known, cutoff=0.85):
        # layer_1 and layer_2 are two names, not one and a slip; so are
        # val_dataloader and val_dataloader_cfg.
        if re.sub(r'\d', '', key) != re.sub(r'\d', '', match) and (
            not key.startswith(f'{match}_')
        ):
            return match
    return None


def set_mixed_precision(cfg: Config) -> str:
    """Turn on mixed precision for the device at hand; say what was chosen.

    On CUDA that is mmengine's ``AmpOptimWrapper`` with the dtype of the
    config (float16 if none) and dynamic loss scaling for float16; on CPU
    bfloat16.

    Raises:
        UsageError: The config has another kind of optimizer wrapper.
    """
    wrapper = cfg.optim_wrapper
    kind = wrapper.get('type', 'OptimWrapper')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise UsageError(
            "--amp replaces optim_wrapper.type 'OptimWrapper', but the "
            f"config has '{kind}'; choose its precision in the config"
        )
    if wrapper.get('dtype') not in _DTYPES:
        raise UsageError(
            f'--amp: optim_wrapper.dtype={wrapper.dtype!r} is none of '
            f'{", ".join(map(str, _DTYPES))}'
        )
    if get_device() == 'cpu':
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            wrapper.pop(key, None)
        wrapper.type = 'swav_plugin.engine.CPUAmpOptimWrapper'
        return 'Mixed precision: bfloat16 on the CPU.'
    wrapper.type = 'AmpOptimWrapper'
    # bfloat16 has float32's range. Scaling for float16 reads from the device
    # in each step whether a gradient overflowed.
    wrapper.setdefault(
        'loss_scale',
        dict(enabled=False)
        if wrapper.get('dtype') == 'bfloat16'
        else 'dynamic',
    )
    scale = wrapper.loss_scale
    if isinstance(scale, dict) and not scale.get('enabled', True):
        scale = 'none'
    return (
        f'Mixed precision: {wrapper.get("dtype") or "float16"}, '
        f'loss_scale {scale}.'
    )
