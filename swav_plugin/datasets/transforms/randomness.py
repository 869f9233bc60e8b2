"""Draw the numbers of random transforms, and check their arguments."""

import functools
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from torch.utils.data import get_worker_info

from ..sampler import SampleKey
from .streams import OUTSIDE_VIEWS, Streams


def sample_key(sample_idx: int | None) -> SampleKey:
    """Return the key that a sample draws its numbers with.

    Args:
        sample_idx: A `SampleKey` is its own key. Anything else (a plain index
            of another sampler) gets a new key at every call, and a warning,
            once.
    """
    if isinstance(sample_idx, SampleKey):
        return sample_idx
    worker = get_worker_info()
    if worker is None or worker.id == 0:
        _warn_not_keyed()
    # mmengine seeds torch in all workers alike at the start of every epoch;
    # only the seed that the loader gave the worker changes with the epoch.
    loader_seed = 0 if worker is None else worker.seed % 2**63
    return SampleKey(0, loader_seed, int(torch.randint(2**62, ()).item()))


def sample_rng(
    sample_idx: int | None, name: str, view: int = OUTSIDE_VIEWS
) -> np.random.Generator:
    """Return the generator of one kind of number in one sample.

    Args:
        sample_idx: As for `sample_key`.
        name: Name of the kind, usually the class of the transform.
        view: OUTSIDE_VIEWS or FIRST_VIEW + view.

    >>> from swav_plugin.datasets import SampleKey
    >>> key = SampleKey(7, epoch=2, seed=31)
    >>> sample_rng(key, 'a').random() == sample_rng(key, 'a').random()
    True
    """
    return Streams(sample_key(sample_idx), view).next(name)


@functools.cache
def _warn_not_keyed() -> None:
    """Warn, once in a process, that views cannot be reproduced."""
    warnings.warn(
        'Random transforms got samples without a SampleKey, so their views '
        'cannot be reproduced and depend on the number of workers. Set '
        "sampler=dict(type='KeyedSampler') in the dataloader and do not "
        'renumber its indices (RepeatDataset and ConcatDataset do; '
        'ImageFolder accepts several roots itself).',
        stacklevel=3,
    )


class RandomTransform(BaseTransform):
    """Base class of random transforms of an image: draw numbers, then apply.

    A subclass has `apply` and, if it has random parameters, `draw`. Neither
    has side effects. The numbers come from a stream named after the class:
    one more number at the end of `draw`, or one more transform in a pipeline,
    changes nothing that others draw.

    Args:
        prob: Probability of applying it to an image, in [0, 1].
    """

    def __init__(self, prob: float = 1.0) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(
                f'{type(self).__name__} got prob={prob}; '
                'give a probability between 0 and 1.'
            )
        self.prob = prob

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Any:
        """Draw the parameters of `apply` for an image of this shape."""
        return None

    def apply(self, img: np.ndarray, params: Any) -> np.ndarray:
        """Return img, (H, W, 3) uint8 RGB, transformed; do not write to it."""
        raise NotImplementedError

    def transform(self, results: dict) -> dict:
        """Transform results['img'] with numbers from results['streams']."""
        if results.get('streams') is None:
            # Kept for the transforms that follow: a second one of the same
            # name must not get the same numbers.
            results['streams'] = Streams(sample_key(results.get('sample_idx')))
        rng = results['streams'].next(type(self).__name__)
        img = results['img']
        if rng.random() < self.prob:
            params = self.draw(rng, *img.shape[:2])
            results['img'] = self.apply(img, params)
            results['img_shape'] = results['img'].shape[:2]
        return results


def check_bounds(
    owner: object,
    name: str,
    bounds: Any,
    low: float,
    high: float,
    meaning: str,
) -> None:
    """Raise unless `bounds` are two numbers, low <= least <= largest <= high.

    Raises:
        ValueError: Says what was passed to which argument of `owner`, and
            which numbers are expected.
    """
    try:
        least, largest = bounds
        is_right = low <= least <= largest <= high
    except (TypeError, ValueError):
        is_right = False
    if not is_right:
        raise ValueError(
            f'{type(owner).__name__} got {name}={bounds}; give '
            f'(least, largest) {meaning}.'
        )


@contextmanager
def global_generators_from(rng: np.random.Generator) -> Iterator[None]:
    """Seed random, numpy and torch (CPU) from `rng`, and restore them after.

    For transforms of other packages, which draw from these.
    """
    states = (random.getstate(), np.random.get_state(), torch.get_rng_state())
    seed = int(rng.integers(2**32))
    random.seed(seed)
    np.random.seed(seed)
    # Not torch.manual_seed, which would seed the GPUs as well.
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
