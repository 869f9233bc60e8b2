"""HealthHook: say at the end of each epoch whether the run learns."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.nn import SyncBatchNorm
from torch.nn.modules.batchnorm import _BatchNorm

from swav_plugin.models import SwAVHead
from swav_plugin.models.health import stopping_score, summarize
from swav_plugin.registry import HOOKS

from ..errors import UsageError
from ..log_processor import log_interval
from ..screen import NUMBERS
from ..verdict import Verdict, judge
from ..wrappers import unwrap
from .swav import SwAVHook

HEALTH = 'health.json'
# Of the whole epoch; the other statistics are of its latest iterations.
_OF_EPOCH = (
    'effective_prototypes',
    'effective_share',
    'largest_share',
    'dead_prototypes',
    'dead_share',
)


@HOOKS.register_module()
class HealthHook(Hook):
    """Watch a run for collapse, and say what to change.

    It is `default_hooks.health` of our recipes. The head sums up what it
    computes anyway; this hook reads the sums where a line of the log reads
    the losses, and judges them at the end of each epoch, also in a loop over
    iterations: one line in the log, another one with all numbers in its file
    alone, one line of JSON in `vis_data/health.json`, and scalars
    `health/...`. It draws no random numbers and leaves the losses alone. A
    resumed run goes on with the sums of the epoch that it was in.

    Args:
        stop_on_collapse: End the run, with an error, once it has collapsed;
            not while SwAVHook freezes the prototypes, which are random then.

    Raises:
        UsageError: It has collapsed, and `stop_on_collapse` is on.
    """

    # After LoggerHook (BELOW_NORMAL), before CheckpointHook (VERY_LOW): a
    # collapsed epoch that ends the run replaces no checkpoint.
    priority = 'LOW'

    _head: SwAVHead | None = None
    _saved: Any = None  # of a run that is resumed

    def __init__(self, stop_on_collapse: bool = False) -> None:
        self.stop_on_collapse = stop_on_collapse

    def after_load_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Note the sums of a run that is resumed."""
        self._saved = checkpoint.get('health')

    def before_train(self, runner: Runner) -> None:
        """Let the head keep statistics, and of the gradients, too."""
        head = getattr(unwrap(runner.model), 'head', None)
        if not isinstance(head, SwAVHead):
            runner.logger.info('HealthHook is off: the model has no SwAVHead.')
            return
        self._head = head
        statistics = head.start_statistics()
        if runner._resume and isinstance(self._saved, Mapping):
            statistics.restore(self._saved)
        self._saved = None

        accumulated = runner.optim_wrapper._accumulative_counts

        def add_gradients(*_: Any) -> None:
            # Of the last step that the line of the log comes after.
            if any(_is_due(runner, ahead) for ahead in range(accumulated)):
                found = [each.grad for each in runner.model.parameters()]
                statistics.add_gradients([g for g in found if g is not None])

        optimizer = runner.optim_wrapper.optimizer
        optimizer.register_step_pre_hook(add_gradients)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Read the statistics with the log; judge them after an epoch."""
        if self._head is None or not _is_due(runner):
            return
        self._head.collect_statistics()
        statistics = self._head.statistics
        assert statistics is not None
        values = summarize(statistics.window)
        if _ends_epoch(runner):
            self._judge(runner, values)
            statistics.end_epoch()
        statistics.end_window()
        runner.visualizer.add_scalars(
            {f'health/{name}': value for name, value in values.items()},
            step=runner.iter + 1,
        )

    def _judge(self, runner: Runner, values: dict[str, float]) -> None:
        """Judge an epoch; add to the scalars what only an epoch has."""
        assert self._head is not None and self._head.statistics is not None
        recent = summarize(self._head.statistics.recent)
        if not recent:  # nothing that is finite
            return
        epoch = summarize(self._head.statistics.epoch)
        of_epoch = {name: epoch[name] for name in _OF_EPOCH if name in epoch}
        of_epoch |= self._head.prototype_cosines()
        recent |= of_epoch
        recent['stopping_score'] = stopping_score(recent)
        values |= dict(of_epoch, stopping_score=recent['stopping_score'])
        verdict = judge(recent | _settings(runner, self._head))
        if verdict.state == 'OK':
            runner.logger.info(f'Health: {verdict}')
        else:
            # Not as an error, of which mmengine names the source file. It
            # drops a warning that equals an earlier one, as no exception does.
            runner.logger.warning(UserWarning(f'Health: {verdict}'))
        numbers = (f'{name} {value:.4g}' for name, value in recent.items())
        runner.logger.info(NUMBERS + ', '.join(numbers))
        self._write(runner, recent, verdict)
        has_collapsed = verdict.state == 'COLLAPSED'
        if self.stop_on_collapse and has_collapsed and not _is_frozen(runner):
            raise UsageError(
                f'iteration {runner.iter + 1}: the run has {verdict} '
                '(default_hooks.health.stop_on_collapse)'
            )

    def _write(
        self,
        runner: Runner,
        statistics: Mapping[str, float],
        verdict: Verdict,
    ) -> None:
        """Add a line of JSON for an epoch."""
        if not is_main_process():
            return
        num_iters = runner.iter + 1
        row = dict(
            epoch=num_iters // len(runner.train_dataloader),
            step=num_iters,
            state=verdict.state,
            message=str(verdict),
            **statistics,
        )
        path = Path(runner.log_dir, 'vis_data', HEALTH)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open('a', encoding='utf-8') as file:
                file.write(json.dumps(row) + '\n')
        except OSError as error:  # a full disk ends no run
            runner.logger.warning(f'The log cannot be written: {error}')

    def gather_state(self, runner: Runner) -> None:
        """Collect what a checkpoint is to have; all ranks call it."""
        if self._head is not None:
            self._head.collect_statistics()

    def before_save_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Save the sums of the epoch so far, which are those of all ranks."""
        if self._head is not None and self._head.statistics is not None:
            checkpoint['health'] = self._head.statistics.state()


def _is_due(runner: Runner, ahead: int = 0) -> bool:
    """Return True if the log reads the losses `ahead` iterations from now."""
    done = now = runner.iter + ahead + 1
    num_batches = len(runner.train_dataloader)
    if isinstance(runner.train_loop, EpochBasedTrainLoop):
        done = (now - 1) % num_batches + 1
    return done % log_interval(runner) == 0 or now % num_batches == 0


def _is_frozen(runner: Runner) -> bool:
    """Return True while the prototypes are those of the beginning."""
    num_steps = (runner.iter + 1) // runner.optim_wrapper._accumulative_counts
    return any(
        num_steps <= hook.freeze_prototypes_iters
        for hook in runner.hooks
        if isinstance(hook, SwAVHook)
    )


def _settings(runner: Runner, head: SwAVHead) -> dict[str, float]:
    """Return the settings that tell the causes of a collapse apart."""
    sampler = runner.train_dataloader.batch_sampler
    num_images = getattr(sampler, 'batch_size', 1)
    total_batch = num_images * get_world_size()
    settings = dict(
        iteration=runner.iter + 1,
        epsilon=head.epsilon,
    )
    norms = [m for m in runner.model.modules() if isinstance(m, _BatchNorm)]
    if norms:
        is_synced = any(isinstance(norm, SyncBatchNorm) for norm in norms)
        settings['images_per_norm'] = total_batch if is_synced else num_images
    return settings


def _ends_epoch(runner: Runner) -> bool:
    # Not `runner.epoch`, which an iteration-based loop leaves at 0.
    return (runner.iter + 1) % len(runner.train_dataloader) == 0
