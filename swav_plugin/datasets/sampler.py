"""`KeyedSampler` tells each sample its epoch and the seed of the run."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from mmengine.dataset import DefaultSampler

from swav_plugin.registry import DATA_SAMPLERS


class SampleKey(int):
    """The index of a sample that also carries its epoch and the run's seed.

    It is an int wherever an index is needed. Arithmetic gives a plain int: a
    wrapper that renumbers samples (RepeatDataset) loses the key. It has to,
    or all its copies of an image would get the same views.

    Args:
        index: >= 0.
        epoch: >= 0, the epoch in which the sample is drawn.
        seed: >= 0 and < 2 ** 63, the same on all ranks.

    >>> key = SampleKey(7, epoch=2, seed=31)
    >>> [10, 11, 12, 13, 14, 15, 16, 17][key], key.epoch, key.seed
    (17, 2, 31)
    """

    epoch: int
    seed: int

    def __new__(cls, index: int, epoch: int, seed: int) -> 'SampleKey':
        key = super().__new__(cls, index)
        key.epoch = epoch
        key.seed = seed
        return key

    def __reduce__(self) -> tuple:
        # For pickle: keys travel to worker processes.
        return SampleKey, (int(self), self.epoch, self.seed)


@DATA_SAMPLERS.register_module()
class KeyedSampler(DefaultSampler):
    """mmengine's DefaultSampler, whose indices are of type `SampleKey`.

    Order, split over ranks and arguments are DefaultSampler's. The epoch is
    that of `set_epoch`, which the Runner calls, after a resume too. The views
    of a sample then depend on (seed, epoch, index, view) alone, not on
    workers or ranks.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._start = 0

    def start_at(self, num_samples: int) -> None:
        """Leave out this rank's first samples, the next time only.

        A run that is resumed in the middle of an epoch has seen them. None of
        them is loaded.
        """
        self._start = num_samples

    def __iter__(self) -> Iterator[SampleKey]:
        """Yield the keys of this rank's samples in one epoch."""
        # Read now: the loader may still iterate when the next epoch is set.
        epoch, seed = self.epoch, self.seed
        start, self._start = self._start, 0
        indices = islice(super().__iter__(), start, None)
        return (SampleKey(i, epoch, seed) for i in indices)
