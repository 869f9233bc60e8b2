"""Find out before training whether /dev/shm has room for the batches.

Workers hand their batches over in shared memory. Containers often have 64 MB
of it, and torch's messages ("bus error", "unable to allocate") do not say so.
"""

import os
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from traceback import walk_tb
from typing import Any

import numpy as np
from mmengine.dist import get_rank
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from swav_plugin.datasets.sampler import SampleKey
from swav_plugin.datasets.transforms.formatting import WholeImage
from swav_plugin.datasets.transforms.loading import EncodedImage
from swav_plugin.datasets.transforms.randomness import global_generators_from

from .errors import UsageError

_SHARED_MEMORY = '/dev/shm'
_ENOUGH = 2**34  # bytes: nobody's batches need more
_ENDS_WITHIN_S = 1.0

# What torch says when there is too little.
_TOO_LITTLE = re.compile(
    r'shared memory\(shm\)|killed by signal: Bus error'
    r'|unable to (write to|mmap .* from|resize) file </torch_'
)

# What it says of a worker that is gone.
_KILLED = re.compile(
    r'DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) '
    r'(?:is killed by signal: (\w[\w ]*)|exited unexpectedly)'
)

WHAT_TO_DO = (
    'Give the container more (docker run --shm-size=8g, or --ipc=host), or '
    'set num_workers or batch_size of the dataloader lower; num_workers=0 '
    'needs none'
)


def check_shared_memory(runner: Runner, name: str) -> None:
    """Check that each worker can hand over a batch.

    Args:
        runner: The Runner; tells of batches that are made ahead in its log.
        name: 'train', 'val' or 'test'.

    Raises:
        UsageError: Not even one batch of each worker fits.
    """
    loader = getattr(runner, f'{name}_dataloader')
    free = free_bytes()
    if free >= _ENOUGH or not getattr(loader, 'num_workers', 0):
        return
    num_workers = loader.num_workers * int(
        os.environ.get('LOCAL_WORLD_SIZE', 1)
    )
    batch_size = loader.batch_size or getattr(
        loader.batch_sampler, 'batch_size', 1
    )
    needed = _bytes_per_sample(loader) * batch_size * num_workers
    text = (
        f'{_SHARED_MEMORY} has {free / 1e6:,.1f} MB of shared memory free, '
        f'but {num_workers} workers with a batch of {batch_size} each need '
        f'{needed / 1e6:,.1f} MB'
    )
    if needed > free:
        raise UsageError(f'{text}. {WHAT_TO_DO}.')
    ahead = loader.prefetch_factor or 1
    if needed * ahead > free:
        runner.logger.warning(
            f'{text} for each of the {ahead} batches they make ahead, which '
            f'may not fit together. {WHAT_TO_DO}.'
        )


def workers_that_fit(num_workers: int, batch_bytes: int) -> int:
    """Return how many of the workers can make batches of that size ahead.

    A worker holds up to three: two it has made, and the one it makes.
    """
    return min(num_workers, free_bytes() // (3 * batch_bytes))


def free_bytes() -> int:
    """Return the free shared memory; `_ENOUGH` where it is not in a folder."""
    try:
        status = os.statvfs(_SHARED_MEMORY)
    except (OSError, AttributeError):  # macOS, Windows
        return _ENOUGH
    return status.f_bavail * status.f_frsize


def _bytes_per_sample(loader: DataLoader) -> float:
    """Return the bytes of the inputs of a sample, on average over a few.

    Random numbers stay as they were.
    """
    dataset: Any = loader.dataset
    last = len(dataset) - 1
    found = []
    with global_generators_from(np.random.default_rng(0)):
        for index in sorted({0, last // 2, last}):
            try:
                sample = dataset[SampleKey(index, 0, 0)]
            except Exception:  # is reported when it is its turn
                continue
            found.append(_num_bytes(sample.get('inputs')))
    return float(np.mean(found)) if found else 0.0


def _num_bytes(inputs: Any) -> int:
    """Count the bytes of the tensors that a sample is made of."""
    if isinstance(inputs, Tensor):
        return inputs.numel() * inputs.element_size()
    if isinstance(inputs, WholeImage):
        pixels = inputs.pixels
        is_encoded = isinstance(pixels, EncodedImage)
        return len(pixels.data) if is_encoded else pixels.size
    if isinstance(inputs, (list, tuple)):
        return sum(_num_bytes(each) for each in inputs)
    return 0


@contextmanager
def lost_workers_in_one_line() -> Iterator[None]:
    """Say what to do when a data worker is killed or has too little memory.

    Raises:
        UsageError: In place of torch's RuntimeError.
    """
    try:
        yield
    except Exception as error:
        if _TOO_LITTLE.search(_everything_said(error)):
            raise UsageError(
                f'the workers ran out of shared memory, {_SHARED_MEMORY}. '
                f'{WHAT_TO_DO}.'
            ) from error
        try:
            killed = _killed_worker(error)
        except RuntimeError as from_torch:  # which notices only now
            killed = _killed_worker(from_torch)
        if killed is None:
            raise
        pid, signal_name = killed
        raise UsageError(
            f'rank {get_rank()}: its data worker, process {pid}, was killed '
            f'({signal_name}). The system does that when memory runs out: '
            'set num_workers or batch_size of the dataloader lower'
        ) from error


def _killed_worker(error: BaseException) -> tuple[str, str] | None:
    """Return process and signal of the data worker behind an error.

    Where torch notices first, it says so. Otherwise whatever was to be read
    from that worker fails: connections are reset, files are gone.
    """
    said = _KILLED.search(_everything_said(error))
    workers = _workers_behind(error)
    ended: list[Any] = []
    if workers:
        # What it sent breaks a moment before it has ended.
        is_broken = isinstance(error, (OSError, EOFError))
        within_s = _ENDS_WITHIN_S if is_broken else 0
        ended = wait([worker.sentinel for worker in workers], within_s)
    for worker in workers:
        if worker.sentinel in ended:
            worker.join()
            if worker.exitcode is not None and worker.exitcode < 0:
                return str(worker.pid), signal.Signals(-worker.exitcode).name
    return (said[1], said[2] or 'no signal is known') if said else None


def _workers_behind(error: BaseException) -> Sequence[BaseProcess]:
    """Return the workers of the loader that an error came through."""
    for frame, _ in walk_tb(error.__traceback__):
        iterator = frame.f_locals.get('self')
        if isinstance(iterator, _MultiProcessingDataLoaderIter):
            return iterator._workers
    return []


def _everything_said(error: BaseException | None) -> str:
    """Return the text of an error and of those that it came from.

    torch raises from a signal handler, in the midst of whatever runs, which
    may catch that and raise something of its own.
    """
    texts = []
    while error is not None:
        texts.append(str(error))
        error = error.__cause__ or error.__context__
    return '\n'.join(texts)
