"""Write numbers with the protocol that they come from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from swav_plugin.checkpoints.atomic import write_atomic
from swav_plugin.models.linear_probe import LinearProbe
from swav_plugin.registry import HOOKS

from .pretrained import PretrainedHook


@HOOKS.register_module()
class ResultsHook(Hook):
    """Keep the numbers of the last evaluation in `results.json`.

    A list of name, value and protocol, as `FeatureEvalLoop` writes it, in the
    folder of this run's log. For trainings that are evaluated, and for tests
    of what they gave. What mmdet gives as fractions is written in percent, and
    its -1, for sizes of objects that no image has, is left out.
    """

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Write the numbers of an evaluation during training."""
        done = f'epoch {runner.epoch} of {runner.max_epochs}'
        if _max_iters(runner):
            done = f'iteration {runner.iter} of {runner.max_iters}'
        batch = f'batch {get_world_size()}x{_batch_size(runner)}'
        self._write(runner, metrics or {}, f'{batch}, after {done}')

    def after_test_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Write the numbers of a test."""
        length = f'{_max_iters(runner)} iterations'
        if not _max_iters(runner):
            epochs = (runner.cfg.get('train_cfg') or {}).get('max_epochs')
            length = f'{epochs} epochs'
        # How many GPUs it was trained on is not known here.
        batch = f'batch {_batch_size(runner)} on each GPU'
        self._write(runner, metrics or {}, f'{batch}, {length} by the config')

    def _write(
        self, runner: Runner, metrics: dict[str, float], training: str
    ) -> None:
        if not is_main_process():
            return
        protocol = f'{describe(runner)}, {training}'
        runner.logger.info(f'Protocol: {protocol}')
        results = [
            dict(name=name, value=value, protocol=protocol)
            for name, value in in_percent(metrics).items()
        ]
        path = Path(runner.log_dir, 'results.json')
        write_atomic(path, json.dumps(results, indent=2))


def _batch_size(runner: Runner) -> int | None:
    """Of each process, in training."""
    return (runner.cfg.get('train_dataloader') or {}).get('batch_size')


def _max_iters(runner: Runner) -> int | None:
    """How many iterations the config trains; None if it counts epochs."""
    return (runner.cfg.get('train_cfg') or {}).get('max_iters')


def in_percent(metrics: Mapping[str, float]) -> dict[str, float]:
    """Give numbers of mmdet in percent, as all others are.

    >>> in_percent({'coco/bbox_mAP': .5, 'coco/bbox_mAP_s': -1, 'mIoU': 40.})
    {'coco/bbox_mAP': 50.0, 'mIoU': 40.0}
    """
    converted = {}
    for name, value in metrics.items():
        if not name.startswith(('coco/', 'pascal_voc/')):
            converted[name] = float(value)  # mmseg's are of NumPy
        elif value >= 0:
            converted[name] = 100 * float(value)
    return converted


def describe(runner: Runner) -> str:
    """Say in one line how a network is trained, by its config."""
    model = runner.model
    if is_model_wrapper(model):
        model = model.module
    cfg = runner.cfg
    parts = ['all weights trained']
    if isinstance(model, LinearProbe):
        rates = ', '.join(f'{rate:g}' for rate in model.head.learning_rates)
        norm = 'batch norm and ' if model.head.batch_norm else ''
        parts = [
            f'frozen backbone, {norm}linear on {", ".join(model.features)} '
            f'({model.windows} windows), learning rate {rates}'
        ]
    parts += [
        f'--pretrained {hook.origin["name"]}'
        for hook in runner.hooks
        if isinstance(hook, PretrainedHook) and hook.origin
    ]
    wrapper = cfg.get('optim_wrapper') or {}
    schedulers = cfg.get('param_scheduler') or []
    if isinstance(schedulers, Mapping):
        schedulers = [schedulers]
    parts += [
        _call(part) for part in (wrapper.get('optimizer'), *schedulers) if part
    ]
    keys = (wrapper.get('paramwise_cfg') or {}).get('custom_keys') or {}
    parts += [f'{key} {_call(of_key)}' for key, of_key in keys.items()]
    return ', '.join(parts)


def _call(config: Mapping[str, Any]) -> str:
    """A config as a call.

    >>> _call(dict(type='SGD', momentum=0.9))
    'SGD(momentum=0.9)'
    """
    arguments = ', '.join(
        f'{key}={value}'
        for key, value in config.items()
        if key not in ('type', '_scope_')
    )
    return f'{config.get("type", "")}({arguments})'
