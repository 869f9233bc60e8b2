"""Gradients that wait for their optimizer step when a checkpoint is written.

With gradient accumulation an epoch may end between two steps. Without these
gradients a resumed run would lose the batches since the last step.
"""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import gather_object, get_rank, get_world_size
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor

from .wrappers import unwrap

# For each rank: the names of parameters, and their gradients.
Gradients = list[dict[str, Tensor]]


def _num_waiting(runner: Runner) -> int:
    """Return how many batches wait for the next optimizer step."""
    wrapper = runner.optim_wrapper
    if not isinstance(wrapper, OptimWrapper) or wrapper.should_update():
        return 0
    return wrapper._inner_count % wrapper._accumulative_counts


def gather_gradients(runner: Runner) -> Gradients | None:
    """Return what waits on each rank, on rank 0; all ranks have to call it.

    None if nothing waits, and on other ranks.
    """
    if not _num_waiting(runner):
        return None
    here = {
        name: parameter.grad.cpu()
        for name, parameter in unwrap(runner.model).named_parameters()
        if parameter.grad is not None
    }
    return gather_object(here)


def restore_gradients(runner: Runner, saved: Any) -> None:
    """Give a resumed run the gradients that waited.

    On another number of ranks each gets their mean, which leads to the same
    step: DDP takes the mean over ranks.

    Args:
        runner: Before its first iteration.
        saved: From `gather_gradients`; None if the checkpoint has none.
    """
    wrapper = runner.optim_wrapper
    if not isinstance(wrapper, OptimWrapper):
        return
    num_waiting = runner.iter % wrapper._accumulative_counts
    if not num_waiting:
        return
    if not saved:
        runner.logger.warning(
            f'--resume: the gradients of {num_waiting} batches before '
            f'iteration {runner.iter} are not in the checkpoint; the next '
            'optimizer step goes without them.'
        )
        return
    if len(saved) == get_world_size():
        here: Mapping[str, Tensor] = saved[get_rank()]
    else:
        here = {
            name: torch.stack([rank[name] for rank in saved]).mean(0)
            for name in saved[0]
        }
    for name, parameter in unwrap(runner.model).named_parameters():
        if name in here:
            parameter.grad = here[name].to(parameter.device)
