"""SwAVHook: when prototypes thaw and when the queue starts."""

import math
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.runner import Runner
from mmengine.utils import digit_version

from swav_plugin.models import SwAVHead
from swav_plugin.registry import HOOKS

from ..wrappers import unwrap
from .replaceable import ReplaceableHook


@HOOKS.register_module()
class SwAVHook(ReplaceableHook):
    """Freeze prototypes at first, start the queue later, check the recipe.

    It is `default_hooks.swav` of our recipes, which change its arguments
    there: ``default_hooks = dict(swav=dict(queue_begin_epoch=15))``.

    Args:
        freeze_prototypes_iters: Optimizer steps that leave the prototypes
            alone. Steps, not batches: with gradient accumulation over n
            batches a step is n iterations.
        queue_begin_epoch: First epoch, from 0, that fills the queue; it is
            used once full. A fixed point in training, so a resumed run
            behaves as an uninterrupted one.

    Raises:
        ValueError: Before training, if the model is not SwAV's, the queue
            does not hold a whole number of batches, or the whole backbone is
            under activation checkpointing.
    """

    priority = 'NORMAL'

    def __init__(
        self, freeze_prototypes_iters: int = 0, queue_begin_epoch: int = 0
    ) -> None:
        self.freeze_prototypes_iters = freeze_prototypes_iters
        self.queue_begin_epoch = queue_begin_epoch

    def before_train(self, runner: Runner) -> None:
        """Check the recipe and attach the freezing to the optimizer."""
        head = _swav_head(runner)
        _check_options(runner)
        if runner.iter == 0 and head.queue is not None:
            # `load_from` may have brought the queue of another run along.
            head.queue.clear()
        total_batch = _batch_size(runner) * get_world_size()
        _check_queue(head, total_batch)
        _warn_of_few_images(runner, head, total_batch)
        accumulated = runner.optim_wrapper._accumulative_counts
        if accumulated > 1:
            runner.logger.info(
                f'Gradients are accumulated over {accumulated} batches. Codes '
                f'are not: they see {total_batch} images at a time'
                f'{_and_queue(head)}, not {accumulated * total_batch}; the '
                'queue takes up every batch.'
            )

        def drop_gradients(*_: Any) -> None:
            # `runner.iter` counts the batches before this one; what counts
            # here is the steps before this one.
            if runner.iter // accumulated < self.freeze_prototypes_iters:
                head.drop_prototype_gradients()

        optimizer = runner.optim_wrapper.optimizer
        optimizer.register_step_pre_hook(drop_gradients)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any | None = None
    ) -> None:
        """Start the queue when its epoch has come."""
        head = _swav_head(runner)
        # Not `runner.epoch`, which an iteration-based loop leaves at 0.
        epoch = runner.iter // len(runner.train_dataloader)
        if epoch >= self.queue_begin_epoch:
            head.start_queue()
        else:
            head.pause_queue()


def _swav_head(runner: Runner) -> SwAVHead:
    model = unwrap(runner.model)
    head = getattr(model, 'head', None)
    if not isinstance(head, SwAVHead):
        raise ValueError(
            f'SwAVHook works on a model with a SwAVHead but got a '
            f'{type(model).__name__} with head {type(head).__name__}; turn '
            'the hook off (default_hooks.swav=None for our commands; a script '
            "of your own leaves it out) or set model.type='SwAV'."
        )
    return head


def _batch_size(runner: Runner) -> int:
    """Return the number of images that this rank gets in a batch."""
    loader = runner.train_dataloader
    return loader.batch_size or loader.batch_sampler.batch_size


def _check_options(runner: Runner) -> None:
    """Refuse options of mmengine's that would undo part of the training."""
    if 'backbone' in (runner.cfg.get('activation_checkpointing') or ()):
        raise ValueError(
            "activation_checkpointing=['backbone'] would leave the backbone "
            'without gradients, since images need none; set '
            'model.backbone.with_cp=True instead.'
        )
    if runner.cfg.get('compile') and (
        digit_version(torch.__version__) < digit_version('2.3')
    ):
        raise ValueError(
            f'compile needs torch >= 2.3 but this is {torch.__version__}, '
            'which with it does not call the hook that freezes prototypes.'
        )


def _check_queue(head: SwAVHead, total_batch: int) -> None:
    """Refuse a queue that would hold part of a batch."""
    length = head.queue_length
    if length % total_batch:
        below = length // total_batch * total_batch
        options = [n for n in (below, below + total_batch) if n]
        raise ValueError(
            f'queue_length={length} is not a multiple of the total batch '
            f'size {total_batch} (batch_size x number of GPUs), so the queue '
            'would hold part of a batch; set model.head.queue_length to '
            f'{" or ".join(map(str, options))}, or to 0 for no queue.'
        )


def _warn_of_few_images(
    runner: Runner, head: SwAVHead, total_batch: int
) -> None:
    """Say what follows from more prototypes than embeddings to assign."""
    most = max(head.num_prototypes)
    num_rows = total_batch + head.queue_length
    if most > num_rows:
        needed = math.ceil((most - total_batch) / total_batch) * total_batch
        runner.logger.warning(
            f'{most} prototypes share {total_batch} images{_and_queue(head)}: '
            f'each gets {num_rows / most:.2g} of an image, so every code is '
            f'spread over {math.ceil(most / num_rows)} prototypes or more. '
            'That is unusual, not wrong. For codes that can be sharper set '
            f'model.head.num_prototypes to at most {num_rows}, or '
            f'model.head.queue_length to at least {needed}.'
        )


def _and_queue(head: SwAVHead) -> str:
    return f' and {head.queue_length} queued' if head.queue_length else ''
