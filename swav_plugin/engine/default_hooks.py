"""Our hooks in a config: in `default_hooks`, or in a list of version 0.1.

Up to version 0.1 they were in `custom_hooks`. What is here makes configs of
that version mean what they meant then, and will be removed in the next
version, except `check_default_hooks`.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from swav_plugin.registry import HOOKS

from .errors import UsageError

MMENGINE_HOOKS = (
    'runtime_info',
    'timer',
    'sampler_seed',
    'logger',
    'param_scheduler',
    'checkpoint',
)

# Classes by their names in `default_hooks`.
OUR_HOOKS = dict(
    swav='SwAVHook',
    skipped_images='SkippedImagesHook',
    pretrained='PretrainedHook',
    results='ResultsHook',
)


def hook_class(hook: Any) -> str:
    """Return the name of a hook's class, from its config or itself.

    >>> hook_class(dict(type='swav_plugin.engine.SwAVHook'))
    'SwAVHook'
    """
    kind = hook.get('type') if isinstance(hook, Mapping) else type(hook)
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2]


def _ours(cfg: Config) -> dict[str, dict]:
    """Return what `default_hooks` has of our hooks, by name."""
    hooks = cfg.get('default_hooks') or {}
    return {
        name: hook
        for name, hook in hooks.items()
        if hook_class(hook) in OUR_HOOKS.values()
    }


def _listed(cfg: Config) -> set[str]:
    """Return the classes of our hooks that `custom_hooks` names."""
    listed = {hook_class(hook) for hook in cfg.get('custom_hooks') or ()}
    return listed & {*OUR_HOOKS.values()}


def replace_default_hooks(cfg: Config) -> list[str]:
    """Let a `custom_hooks` list of version 0.1 mean what it meant then.

    There a list replaced the list that it inherited, so that what it did not
    name was off. Now a list

    - that names one of our hooks takes the place of all of them in
      `default_hooks`, as in version 0.1;
    - of other hooks only, an empty one or None leaves ours in
      `default_hooks` on, where version 0.1 turned them off.

    Args:
        cfg: Changed in place.

    Returns:
        What the log should say: one line, or none.
    """
    ours = _ours(cfg)
    if not ours or 'custom_hooks' not in cfg:
        return []
    listed = _listed(cfg)
    classes = {hook_class(hook) for hook in ours.values()}
    if not listed:
        off = ', '.join(f'{name}=None' for name in ours)
        return [
            f'custom_hooks names none of {", ".join(sorted(classes))}, which '
            'therefore stay on; in version 0.1 that turned them off. To turn '
            f'them off set default_hooks=dict({off}).'
        ]
    for name in ours:
        del cfg.default_hooks[name]
    off = ', '.join(sorted(classes - listed)) or 'none'
    return [
        f'custom_hooks names {", ".join(sorted(listed))} and therefore, as in '
        f'version 0.1, replaces {", ".join(ours)} of default_hooks '
        f'(turned off: {off}). From the next version on it only adds hooks: '
        f'change ours in default_hooks, such as {_as_text(ours)}; '
        'None turns one off.'
    ]


def _as_text(hooks: Mapping[str, Mapping]) -> str:
    """Write hooks as a config has them."""
    written = []
    for name, hook in hooks.items():
        arguments = ', '.join(
            f'{key}={value!r}'
            for key, value in hook.items()
            if key != '_scope_'  # mmengine's note of the base's package
        )
        written.append(f'{name}=dict({arguments})')
    return f'default_hooks=dict({", ".join(written)})'


def find_lost_hooks(cfg: Config, path: str) -> list[str]:
    """Find hooks of ours that a `default_hooks` with `_delete_` drops.

    In version 0.1, such a dict left our hooks in `custom_hooks` alone.

    Args:
        cfg: As it was read from `path`.
        path: Its bases are read again, to see what they have.

    Returns:
        What the log should say: one line that has what to add, or none.
    """
    if '_delete_' not in cfg.text or _listed(cfg):
        return []
    present = {hook_class(hook) for hook in _ours(cfg).values()}
    lost = {
        name: hook
        for name, hook in _inherited_hooks(path).items()
        # None is a decision.
        if name not in (cfg.get('default_hooks') or {})
        and hook_class(hook) not in present
    }
    if not lost:
        return []
    classes = ', '.join(map(hook_class, lost.values()))
    return [
        f'default_hooks with _delete_=True turns off {classes} of the configs '
        f'it builds on; to keep them add {_as_text(lost)}.'
    ]


def _inherited_hooks(path: str) -> dict[str, dict]:
    """Return our hooks in `default_hooks` of all bases of a config."""
    hooks: dict[str, dict] = {}
    for base in Config._get_base_files(path):
        base_path, _ = Config._get_cfg_path(base, path)
        hooks |= _inherited_hooks(base_path)
        hooks |= _ours(Config.fromfile(base_path))
    return hooks


def current_name(cfg: Config, key: str) -> str:
    """Return what an option of version 0.1 is called now, else `key`."""
    list_name, _, rest = key.partition('.')
    _, _, name = rest.partition('.')
    if list_name == 'custom_hooks' and name and not cfg.get('custom_hooks'):
        new = [
            f'default_hooks.{hook}.{name}'
            for hook, arguments in _ours(cfg).items()
            if name in arguments
        ]
        if len(new) == 1:
            return new[0]
    return key


def describe_hooks(cfg: Mapping) -> str:
    """Name the hooks that a config has, as ``--cfg-options`` takes them."""
    names = [
        f'default_hooks.{name}' for name in cfg.get('default_hooks') or ()
    ]
    for i, hook in enumerate(cfg.get('custom_hooks') or ()):
        names.append(f'custom_hooks.{i} ({hook_class(hook)})')
    return ', '.join(names) or 'it has none'


def check_default_hooks(cfg: Config) -> None:
    """Check that hooks have a class, and CheckpointHook known arguments.

    Raises:
        UsageError: A hook has no type, or CheckpointHook does not take one
            of its arguments.
    """
    hooks = cfg.get('default_hooks') or {}
    for name, hook in hooks.items():
        if isinstance(hook, Mapping) and 'type' not in hook:
            others = [key for key in hooks if key != name]
            found = describe_hooks({**cfg, 'default_hooks': others})
            raise UsageError(
                f'default_hooks.{name} has no type: neither the config nor '
                f'its bases have a hook of that name, only {found}'
            )
    checkpoint = hooks.get('checkpoint') or {}
    if hook_class(checkpoint) == 'CheckpointHook':
        # It would pass them on and fail at the first checkpoint, hours later.
        known = {
            name
            for kind in HOOKS.get('CheckpointHook').__mro__
            for name in inspect.signature(kind.__init__).parameters
        } - {'self', 'args', 'kwargs'}
        # mmengine writes _scope_ into what a base of another package brings.
        unknown = sorted(
            {*checkpoint} - known - {'type', 'priority', '_scope_'}
        )
        if unknown:
            raise UsageError(
                f'default_hooks.checkpoint: CheckpointHook has no {unknown}; '
                f'it takes {sorted(known)}'
            )
