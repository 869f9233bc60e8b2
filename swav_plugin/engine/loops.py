"""Training loops that go on from any iteration as if they had never stopped.

mmengine's start a resumed epoch over, or load all images that come before.
Here a resumed loop starts at its iteration, and what is random in it depends
on seed, iteration and rank alone: views through `KeyedSampler`, and drop path
and the like because each iteration seeds the generators anew.
"""

import random
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from mmengine import runner as mmengine_runner
from mmengine.dataset import InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader


def seed_iteration(seed: int, iteration: int, rank: int) -> None:
    """Seed what a training step draws from: torch, NumPy and Python.

    Args:
        seed: The seed of the run.
        iteration: From 0, since the run began.
        rank: Rank of this process; each draws its own numbers.
    """
    sequence = np.random.SeedSequence([seed, iteration, rank])
    for_torch, for_numpy, for_python = map(int, sequence.generate_state(3))
    torch.manual_seed(for_torch)
    np.random.seed(for_numpy)
    random.seed(for_python)


def batches_from(loader: DataLoader, start: int) -> Iterator[Any]:
    """Yield the batches of one pass through a loader, from one of them on.

    Samplers that can skip, `KeyedSampler` and mmengine's own where it has
    that, load nothing of what comes before.
    """
    sampler: Any = getattr(loader.batch_sampler, 'sampler', loader.sampler)
    skip = getattr(sampler, 'start_at', getattr(sampler, 'skip', None))
    # Other batch samplers, such as by aspect ratio, reorder the samples.
    if start and skip and type(loader.batch_sampler) is BatchSampler:
        skip(start * loader.batch_sampler.batch_size)
        start = 0
    # A loader draws a seed for its workers whenever it starts.
    with torch.random.fork_rng([]):
        batches = iter(loader)
    return islice(batches, start, None)


def endless_batches(loader: DataLoader, start: int) -> Iterator[Any]:
    """Yield batches for ever, as if `start` of them had been drawn before.

    A sampler with epochs goes through them; mmengine's InfiniteSampler has
    none.
    """
    sampler: Any = getattr(loader.batch_sampler, 'sampler', loader.sampler)
    has_epochs = not isinstance(sampler, InfiniteSampler)
    epoch, start = divmod(start, len(loader)) if has_epochs else (0, start)
    while True:
        if hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(epoch)
        yield from batches_from(loader, start)
        epoch, start = epoch + 1, 0


class _ExactLoop:
    """What both loops share; see the module."""

    runner: mmengine_runner.Runner
    val_begin: int
    val_interval: int
    _iter: int
    _decide_current_val_interval: Callable[[], None]

    def _seeded(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Seed an iteration before its batch is drawn, and its step run."""
        done = object()
        while True:
            seed_iteration(self.runner.seed, self._iter, self.runner.rank)
            batch = next(batches, done)
            if batch is done:
                return
            yield batch

    def _validate(self, done: int, total: int) -> None:
        """Validate if it is time to, after so many epochs or iterations."""
        self._decide_current_val_interval()
        if (
            self.runner.val_loop is not None
            and done >= self.val_begin
            and (done % self.val_interval == 0 or done == total)
        ):
            self.runner.val_loop.run()


class EpochBasedTrainLoop(_ExactLoop, mmengine_runner.EpochBasedTrainLoop):
    """mmengine's loop over epochs, which a resume enters anywhere."""

    def run(self) -> torch.nn.Module:
        """Train what is left; first repeat a validation that was cut off."""
        self.runner.call_hook('before_train')
        if self._iter and self._iter == self._epoch * len(self.dataloader):
            self._validate(self._epoch, self._max_epochs)
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._validate(self._epoch, self._max_epochs)
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """Train the rest of an epoch; of a new one, all of it."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        start = self._iter - self._epoch * len(self.dataloader)
        batches = self._seeded(batches_from(self.dataloader, start))
        for index, batch in enumerate(batches, start):
            self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


class IterBasedTrainLoop(_ExactLoop, mmengine_runner.IterBasedTrainLoop):
    """mmengine's loop over iterations, which a resume enters anywhere."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # It would always begin with the first batch.
        del self.dataloader_iterator

    def run(self) -> torch.nn.Module:
        """Train what is left; first repeat a validation that was cut off."""
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        if self._iter:
            self._validate(self._iter, self._max_iters)
        batches = self._seeded(endless_batches(self.dataloader, self._iter))
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(batches))
            self._validate(self._iter, self._max_iters)
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model
