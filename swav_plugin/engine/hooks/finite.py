"""Stop training when numbers are no longer finite."""

import math
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from swav_plugin.checkpoints.newest import find_checkpoint
from swav_plugin.checkpoints.training_state import named_tensors
from swav_plugin.registry import HOOKS

from ..errors import UsageError
from ..log_processor import log_interval


@HOOKS.register_module()
class FiniteHook(Hook):
    """Stop when a loss or the gradient norm is not finite, and never save it.

    Looks right after a line of the log was written, which has read the losses
    from the device already, and at all tensors of a checkpoint before it is
    saved: a good one is never replaced by one that is not.

    float16 with loss scaling skips steps whose gradients overflow, and so may
    recover from a single one: then only a whole window of the log that is not
    finite stops the training. Our train command gives every run this hook.

    Raises:
        UsageError: With the iteration, the learning rate, the newest good
            checkpoint, and what to change.
    """

    # After LoggerHook (BELOW_NORMAL), before CheckpointHook (VERY_LOW).
    priority = 'LOW'

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Check the window of the log if a line was written just now."""
        interval = log_interval(runner)
        is_last = batch_idx + 1 == len(runner.train_dataloader)
        if not (self.every_n_train_iters(runner, interval) or is_last):
            return
        any_or_all = all if skips_bad_steps(runner) else any
        for name, history in runner.message_hub.log_scalars.items():
            if not name.startswith('train/') or not (
                'loss' in name or name == 'train/grad_norm'
            ):
                continue
            values = history.data[0][-interval:].tolist()
            if any_or_all(not math.isfinite(value) for value in values):
                first = next(v for v in values if not math.isfinite(v))
                _stop(runner, f'{name.removeprefix("train/")} is {first}')

    def before_save_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Refuse to save weights or momenta that are not finite."""
        save_finite(runner, checkpoint['state_dict'])
        save_finite(runner, checkpoint.get('optimizer'), 'optimizer')


def save_finite(runner: Runner, tensors: Any, name: str = '') -> None:
    """Stop the run if a tensor that is to be saved is not finite.

    Args:
        runner: The Runner.
        tensors: Dicts and lists of tensors and of plain values.
        name: What they are, for the message.

    Raises:
        UsageError: As `FiniteHook`.
    """
    values = {
        key: value
        for key, value in named_tensors(tensors, name)
        if value.is_floating_point() and value.numel()
    }
    if not values:
        return
    is_good = torch.stack([v.isfinite().all() for v in values.values()])
    if not is_good.all():
        key = [*values][int(is_good.int().argmin())]
        _stop(runner, f'{key} is not finite; nothing was saved')


def skips_bad_steps(runner: Runner) -> bool:
    """Return True if the optimizer skips gradients that overflow."""
    scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
    return scaler is not None and scaler.is_enabled()


def _stop(runner: Runner, what: str) -> None:
    """Raise with what is known about a run that went wrong."""
    rates = {
        value
        for values in runner.optim_wrapper.get_lr().values()
        for value in values
    }
    newest = find_checkpoint(runner.work_dir)
    raise UsageError(
        f'iteration {runner.iter + 1}: {what}, at a learning rate of '
        f'{max(rates):.4g}. Lower the learning rate, lengthen the '
        'warm-up, check the images, or use bfloat16 instead of float16. '
        + (
            f'The newest good checkpoint is {newest}'
            if newest
            else 'No checkpoint has been saved yet'
        )
    )
