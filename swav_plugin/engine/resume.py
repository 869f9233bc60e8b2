"""Resume a run with settings that may differ from those it began with.

State (weights, momenta, counts, queue) comes from the checkpoint, settings
(rates, schedule, weight decay, length) from the config. mmengine takes both
from the checkpoint.
"""

import ast
import math
import warnings
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor

from .errors import UsageError
from .walk import walk_config
from .wrappers import unwrap

# The parts of a config that decide what a run computes.
_DECISIVE = (
    'model',
    'train_dataloader',
    'train_cfg',
    'optim_wrapper',
    'param_scheduler',
    'auto_scale_lr',
    'randomness',
    'sync_bn',
    'default_hooks.swav',
    'custom_hooks',
)
# What does not change the result, wherever it is.
_INDIFFERENT = (
    'num_workers',
    'persistent_workers',
    'prefetch_factor',
    'pin_memory',
    'in_memory',
    'data_root',
    'data_prefix',
    'ann_file',
    'val_interval',
    'val_begin',
    'with_cp',
    'init_cfg',
    '_scope_',
)
# What optimizers keep with the shape of a parameter.
_PARAMETER_SHAPED = frozenset(
    ('momentum_buffer', 'exp_avg', 'exp_avg_sq', 'max_exp_avg_sq')
)
# Part of an optimizer's groups that is state; all others are settings.
_GROUP_STATE = ('params', 'step')


def config_text(cfg: Config) -> str:
    """Return a config as `read_config_text` reads it."""
    # yapf would take 0.2 s to make it pretty.
    return Config(cfg._cfg_dict, format_python_code=False).pretty_text


def read_config_text(text: str) -> dict[str, Any]:
    """Read the config of a checkpoint without running it.

    Args:
        text: Assignments of literals and `dict(...)`, as `Config.pretty_text`
            writes them.

    Raises:
        ValueError: It is not such a text.

    >>> read_config_text("a = dict(b=[1, -2.0], c='d')")
    {'a': {'b': [1, -2.0], 'c': 'd'}}
    """
    try:
        return {
            statement.targets[0].id: _literal(statement.value)  # type: ignore
            for statement in ast.parse(text).body
        }
    # Whatever a text leads to that is not one.
    except Exception as error:
        raise ValueError(f'not the text of a config: {error}') from None


def _literal(node: ast.expr) -> Any:
    """Evaluate literals, and calls of dict with names."""
    if isinstance(node, ast.Call):
        if getattr(node.func, 'id', '') != 'dict' or node.args:
            raise ValueError(ast.dump(node))
        return {str(key.arg): _literal(key.value) for key in node.keywords}
    if isinstance(node, ast.Dict):
        return {
            ast.literal_eval(key): _literal(value)  # type: ignore[arg-type]
            for key, value in zip(node.keys, node.values)
        }
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_literal(element) for element in node.elts]
    return ast.literal_eval(node)


def compare_configs(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> list[str]:
    """List what differs between two configs and changes the run.

    >>> compare_configs({'train_cfg': {'max_epochs': 2}},
    ...                 {'train_cfg': {'max_epochs': 4}})
    ['train_cfg.max_epochs: 2 -> 4']
    """
    flat_old, flat_new = _flatten(old), _flatten(new)
    changes = []
    for key in dict.fromkeys([*flat_old, *flat_new]):
        if not key.startswith(_DECISIVE) or any(
            part in _INDIFFERENT for part in key.split('.')
        ):
            continue
        if flat_old.get(key) != flat_new.get(key):
            changes.append(
                f'{key}: {flat_old.get(key, "not set")!s} -> '
                f'{flat_new.get(key, "not set")!s}'
            )
    return changes


def compare_images(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    before: Mapping[str, Any],
    now: Mapping[str, Any],
) -> list[str]:
    """Tell whether the training images are others than before.

    A folder may have moved: then only their number counts.

    Args:
        old: The config before.
        new: The config now.
        before: `num_images` and `image_list`, a digest of it; older
            checkpoints have neither.
        now: The same of this run.
    """
    number, listed = (before.get(key) for key in ('num_images', 'image_list'))
    if isinstance(number, int) and number != now['num_images']:
        return [f'number of training images: {number} -> {now["num_images"]}']
    datasets = [
        (cfg.get('train_dataloader') or {}).get('dataset')
        for cfg in (old, new)
    ]
    is_listed = isinstance(listed, str) and listed and now['image_list']
    if is_listed and datasets[0] == datasets[1]:
        if listed != now['image_list']:
            return ['the list of training images, though not their number']
    return []


def compare_batches(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    num_before: Any,
    num_now: int,
) -> list[str]:
    """Say so if the number of processes changed, and the total batch or not.

    Args:
        old: The config that the run began with.
        new: The config now.
        num_before: How many processes it ran on; None if that is not known.
        num_now: How many there are.

    >>> loader = dict(train_dataloader=dict(batch_size=8))
    >>> compare_batches(loader, loader, 1, 2)
    ['total batch: 1 x 8 = 8 -> 2 x 8 = 16']
    """
    sizes = [
        (each.get('train_dataloader') or {}).get('batch_size')
        for each in (old, new)
    ]
    counts = [num_before, num_now]
    if num_before == num_now and sizes[0] == sizes[1]:
        return []
    if not all(type(number) is int for number in (*sizes, *counts)):
        return []
    totals = [count * size for count, size in zip(counts, sizes)]
    texts = [f'{c} x {s} = {c * s}' for c, s in zip(counts, sizes)]
    name = 'the same total batch' if len({*totals}) == 1 else 'total batch'
    return [f'{name}: {texts[0]} -> {texts[1]}']


def first_difference(one: str, other: str) -> tuple[str, Any, Any]:
    """Return the first key of two different configs, and both values.

    Args:
        one: Text for `read_config_text`.
        other: The same.

    >>> first_difference('a = dict(b=1, c=2)', 'a = dict(b=1)')
    ('a.c', 2, 'not set')
    """
    flat_one, flat_other = (
        _flatten(read_config_text(text)) for text in (one, other)
    )
    for key in dict.fromkeys([*flat_one, *flat_other]):
        pair = [flat.get(key, 'not set') for flat in (flat_one, flat_other)]
        if pair[0] != pair[1]:
            return key, pair[0], pair[1]
    return 'the order of its keys', '', ''


def _flatten(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return the leaves of a config by their dotted paths."""
    return {
        '.'.join(keys): node
        for keys, node in walk_config(cfg)
        if not isinstance(node, (Mapping, list, tuple))
    }


def check_state(runner: Runner, state: Mapping[str, Any], source: str) -> None:
    """Check that a training state fits the model and the optimizer.

    Raises:
        UsageError: A weight is missing or has a different shape, or the
            optimizer or the precision differs.
    """
    found = state['state_dict']
    wanted = unwrap(runner.model).state_dict()
    for key, value in wanted.items():
        shape = tuple(value.shape)
        other = found.get(key)
        if not isinstance(other, Tensor):
            what = f'has no {key}'
        elif tuple(other.shape) != shape:
            what = f'has {key} of {tuple(other.shape)}, not {shape}'
        elif value.is_floating_point() and not other.is_floating_point():
            what = f'has {key} of {other.dtype}'
        else:
            continue
        raise UsageError(
            f'--resume: {source} {what}: it is of a run with another '
            'model. Give the config that it began with, or begin a new '
            f'run from its backbone: --pretrained {source}'
        )
    wrapper = runner.optim_wrapper
    if isinstance(wrapper, OptimWrapper):
        _check_optimizer(wrapper, state['optimizer'], source)


def _check_optimizer(
    wrapper: OptimWrapper, state: Mapping[str, Any], source: str
) -> None:
    """Raise a UsageError if an optimizer cannot take up a state."""
    groups = wrapper.optimizer.param_groups
    saved = state.get('param_groups') or []
    advice = (
        'an optimizer cannot go on with the state of another; give the one '
        f'that the run began with, or begin anew: --pretrained {source}'
    )
    if len(groups) != len(saved):
        raise UsageError(
            f'--resume: {source} has {len(saved)} groups of parameters, the '
            f'config makes {len(groups)}: {advice}'
        )
    for group, other in zip(groups, saved):
        # What schedulers and mmengine add depends on how far a run has come.
        different = {*group} ^ {*other} - {*_GROUP_STATE}
        different = {
            key
            for key in different - {'params'}
            if not key.startswith(('initial_', 'base_'))
        }
        if different:
            raise UsageError(
                f'--resume: the optimizer in {source} differs from the '
                f"config's {type(wrapper.optimizer).__name__} (in "
                f'{", ".join(sorted(different))}): {advice}'
            )
        for key, value in other.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UsageError(
                    f'--resume: the optimizer of {source} has {key}={value}; '
                    'give an earlier checkpoint'
                )
    if hasattr(wrapper, 'loss_scaler') and 'loss_scaler' not in state:
        raise UsageError(
            f'--resume: {source} was trained without a loss scale, so it '
            'cannot go on in mixed precision; leave out --amp'
        )


def check_momenta(runner: Runner, source: str) -> None:
    """Check that what a resumed optimizer keeps fits its parameters.

    Raises:
        UsageError: It does not: the first step would stop.
    """
    wrapper = runner.optim_wrapper
    if not isinstance(wrapper, OptimWrapper):
        return
    for parameter, state in wrapper.optimizer.state.items():
        for key in _PARAMETER_SHAPED.intersection(state):
            shape, own = getattr(state[key], 'shape', None), parameter.shape
            if state[key] is not None and shape != own:
                raise UsageError(
                    f'--resume: the optimizer of {source} has a {key} of '
                    f'{shape and tuple(shape)} for a parameter of '
                    f'{tuple(own)}; give another checkpoint'
                )


class Settings:
    """The settings of a built Runner, to be kept while it resumes.

    Args:
        runner: As `Runner.resume` gets it: optimizer and schedulers are
            built, and nothing is loaded.
    """

    def __init__(self, runner: Runner) -> None:
        self._groups = [
            {k: v for k, v in group.items() if k not in _GROUP_STATE}
            for group in _groups(runner)
        ]
        self._schedulers = [s.state_dict() for s in _schedulers(runner)]

    def restore(self, runner: Runner) -> None:
        """Give a resumed Runner these settings, as if it had run with them.

        Args:
            runner: After `Runner.resume`, with its epoch and iteration.
        """
        schedulers = _schedulers(runner)
        for group, settings in zip(_groups(runner), self._groups):
            group.update(settings)
        for scheduler, state in zip(schedulers, self._schedulers):
            scheduler.load_state_dict(state)
        # Not the counts of the checkpoint: its schedulers may be others.
        counts = [
            runner.epoch if scheduler.by_epoch else runner.iter
            for scheduler in schedulers
        ]
        # Step by step and in the order of a run: each scheduler goes on
        # from the value that the others have left.
        per_epoch = len(runner.train_dataloader)
        by_iter = [s for s in zip(schedulers, counts) if not s[0].by_epoch]
        by_epoch = [s for s in zip(schedulers, counts) if s[0].by_epoch]
        num_iters = max(
            [count for _, count in by_iter]
            + [per_epoch * count for _, count in by_epoch],
            default=0,
        )
        with warnings.catch_warnings():
            # torch warns that a scheduler steps before the optimizer.
            warnings.simplefilter('ignore')
            for i in range(1, num_iters + 1):
                _step(by_iter)
                if i % per_epoch == 0:
                    _step(by_epoch)


def _step(schedulers: list[tuple[Any, int]]) -> None:
    """Step those that have not had their number of steps."""
    for scheduler, count in schedulers:
        if scheduler._global_step < count:
            scheduler.step()


def _groups(runner: Runner) -> list[dict]:
    """Return the groups of the optimizer, or of several, one after another."""
    wrapper = runner.optim_wrapper
    if isinstance(wrapper, OptimWrapper):
        return wrapper.param_groups
    return [group for part in wrapper.values() for group in part.param_groups]


def _schedulers(runner: Runner) -> list[Any]:
    """Return all schedulers that follow from counts alone."""
    schedulers = runner.param_schedulers or []
    if isinstance(schedulers, dict):
        schedulers = [s for part in schedulers.values() for s in part]
    return [s for s in schedulers if hasattr(s, '_global_step')]


def iters_before(meta: Mapping[str, Any]) -> int | None:
    """Return how many iterations an epoch had; None if that is not known."""
    if type(meta.get('iters_per_epoch')) is int:
        return meta['iters_per_epoch']
    epoch, num_iters = meta.get('epoch', 0), meta.get('iter', 0)
    return num_iters // epoch if epoch and num_iters % epoch == 0 else None
