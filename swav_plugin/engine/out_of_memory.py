"""Say what would fit when memory runs out in training."""

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import get_rank, get_world_size
from mmengine.runner import Runner

from swav_plugin.checkpoints.training_state import named_tensors

from .errors import UsageError
from .walk import walk_config
from .wrappers import unwrap

# What torch, NumPy and OpenCV say, and how much they asked for.
_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|Unable to allocate"
    r'|Failed to allocate',
    re.IGNORECASE,
)
_ASKED_FOR = re.compile(
    r'(?:Tried to|tried to|Unable to|Failed to) allocate ([\d.]+) ?'
    r'(bytes|KiB|MiB|GiB|TiB)'
)
_UNITS = dict(bytes=1, KiB=2**10, MiB=2**20, GiB=2**30, TiB=2**40)


@contextmanager
def out_of_memory_in_one_line(runner: Runner) -> Iterator[None]:
    """Name the keys that decide how much memory a step takes.

    Raises:
        UsageError: In place of what torch or NumPy raise.
    """
    at_start = _bytes_in_use()
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        is_memory = isinstance(
            error, (MemoryError, torch.cuda.OutOfMemoryError)
        )
        if not is_memory and not _OUT_OF_MEMORY.search(str(error)):
            raise
        if _is_evaluating(runner, error):
            message = _describe_evaluation(runner, str(error))
        else:
            message = _describe(runner, str(error), at_start)
        raise UsageError(message) from error


def _is_evaluating(runner: Runner, error: BaseException) -> bool:
    """Check whether an error comes from an evaluation during training."""
    loop = runner._val_loop
    return loop is not None and any(
        frame.f_locals.get('self') is loop
        for frame, _ in traceback.walk_tb(error.__traceback__)
    )


def _describe_evaluation(runner: Runner, error: str) -> str:
    """Say what ran out in an evaluation, and which keys decide about it."""
    loaders = {
        'val_dataloader': runner.cfg.get('val_dataloader'),
        'val_cfg.bank_dataloader': (runner.cfg.get('val_cfg') or {}).get(
            'bank_dataloader'
        ),
    }
    keys = [
        f'{name}.batch_size={loader["batch_size"]}'
        for name, loader in loaders.items()
        if loader and loader.get('batch_size')
    ]
    return (
        _say_what_ran_out(f'evaluation after iteration {runner.iter}', error)
        + '. The batches of the training fit; those of the evaluation do not: '
        f'lower {" and ".join(keys)}. If that is not enough, train with '
        'val_cfg=None, and evaluate its checkpoints with swav test'
    )


def _say_what_ran_out(when: str, error: str) -> str:
    """Say where, when and on what memory ran out, and how much was missing."""
    in_use, asked_for = _bytes_in_use(), _asked_for(error)
    where = f'rank {get_rank()}: ' if get_world_size() > 1 else ''
    said = f'{where}{when}: out of memory on {get_device()}: '
    said += f'{in_use / 1e9:.1f} GB are in use'
    if asked_for:
        said += f' and {asked_for / 1e9:.2g} GB more were asked for'
    return said


def _describe(runner: Runner, error: str, at_start: int) -> str:
    """Say what ran out, and what would fit."""
    in_use, asked_for = _bytes_in_use(), _asked_for(error)
    said = _say_what_ran_out(f'iteration {runner.iter + 1}', error)
    batch_size = runner.train_dataloader.batch_size
    if not batch_size:  # of a batch sampler
        return f'{said}. Set a smaller batch.'
    fitting = images_that_fit(
        batch_size, at_start + _bytes_of_steps(runner), in_use, asked_for
    )
    said += (
        f'. Of train_dataloader.batch_size={batch_size} probably no more than '
        f'{fitting} fit'
        if fitting
        else f'. Not one image of train_dataloader.batch_size={batch_size} '
        'would fit'
    )
    keys = [
        f'{".".join(path)}.{name}={part[name]}'
        for path, part in walk_config(
            dict(runner.cfg.train_dataloader), ('train_dataloader',)
        )
        if isinstance(part, dict) and 'num_views' in part
        for name in ('num_views', 'sizes')
        if name in part
    ]
    if keys:
        said += f'; fewer or smaller views take less, too: {", ".join(keys)}'
    return (
        f'{said}. --amp and model.backbone.with_cp=True save memory at the '
        'same batch; optim_wrapper.accumulative_counts makes up for a smaller '
        'one, and auto_scale_lr.enable=True adapts the rate'
    )


def images_that_fit(
    batch_size: int, fixed: int, in_use: int, asked_for: int
) -> int:
    """Return how many images of a batch would have fitted, at most.

    What grows with the batch is taken to be proportional to it. What a step
    would have needed after the allocation that failed is not known, so the
    true number may be lower.

    Args:
        batch_size: Images of the batch that did not fit.
        fixed: Bytes that do not depend on it: weights, gradients, momenta.
        in_use: Bytes in use when an allocation failed.
        asked_for: Bytes that it asked for.

    >>> images_that_fit(64, fixed=10, in_use=70, asked_for=20)
    48
    """
    room = max(0, in_use - fixed)
    needed = max(1, room + asked_for)
    return min(batch_size - 1, batch_size * room // needed)


def _bytes_of_steps(runner: Runner) -> int:
    """Count gradients and what the optimizer keeps."""
    held = [p.grad for p in unwrap(runner.model).parameters()]
    state: Any = getattr(runner.optim_wrapper, 'optimizer', None)
    return sum(
        tensor.numel() * tensor.element_size()
        for _, tensor in named_tensors(
            [held, dict(getattr(state, 'state', {}))]
        )
    )


def _bytes_in_use() -> int:
    """Return the memory of this process, on the device that trains."""
    if get_device() == 'cuda':
        return torch.cuda.memory_allocated()
    try:
        pages = int(Path('/proc/self/statm').read_text().split()[1])
    except OSError:  # not on Linux
        return 0
    return pages * 4096


def _asked_for(error: str) -> int:
    """Return the bytes that an allocation asked for, from its error; or 0.

    >>> _asked_for('CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0')
    1610612736
    """
    found = _ASKED_FOR.search(error)
    return int(float(found[1]) * _UNITS[found[2]]) if found else 0
