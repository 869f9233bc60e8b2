"""Where random numbers come from: one generator for each sample and view."""

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

# Numbers for one sample are wanted for several purposes, which must not get
# the same ones. View v has stream FIRST_VIEW + v.
OUTSIDE_VIEWS, REPLACEMENT, FIRST_VIEW = range(3)


def sample_rng(sample_idx: int | None, stream: int) -> np.random.Generator:
    """Give the generator of one sample and one purpose.

    Args:
        sample_idx: A `SampleKey`: the generator depends on its seed, epoch
            and index and on `stream` only. Anything else (a plain index of
            another sampler) gives numbers that are new at every call, and a
            warning, once.
        stream: What the numbers are for: OUTSIDE_VIEWS, REPLACEMENT or
            FIRST_VIEW + view.

    >>> from swav_plugin.datasets import SampleKey
    >>> key = SampleKey(7, epoch=2, seed=31)
    >>> sample_rng(key, 0).random() == sample_rng(key, 0).random()
    True
    """
    if isinstance(sample_idx, SampleKey):
        return np.random.default_rng(
            (sample_idx.seed, sample_idx.epoch, int(sample_idx), stream)
        )
    worker = get_worker_info()
    if worker is None or worker.id == 0:
        _warn_not_keyed()
    # mmengine seeds torch in every worker alike at the start of every epoch;
    # only the seed that the loader gave the worker changes with the epoch.
    loader_seed = 0 if worker is None else worker.seed
    return np.random.default_rng(
        (loader_seed, int(torch.randint(2**62, ()).item()))
    )


@functools.cache
def _warn_not_keyed() -> None:
    """Say once in a process that views cannot be reproduced."""
    warnings.warn(
        'Random transforms got samples without a SampleKey, so their views '
        'cannot be reproduced and depend on the number of workers. Set '
        "sampler=dict(type='KeyedSampler') in the dataloader and do not "
        'renumber its indices (RepeatDataset and ConcatDataset do; '
        'ImageFolder takes several roots itself).',
        stacklevel=3,
    )


class RandomTransform(BaseTransform):
    """Base of the random transforms of an image: draw numbers, then apply.

    A subclass gives `apply` and, if it has random parameters, `draw`. Both
    are free of side effects.

    Args:
        prob: Probability to touch an image, in [0, 1].
    """

    def __init__(self, prob: float = 1.0) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(
                f'{type(self).__name__} got prob={prob}; '
                'give a probability between 0 and 1.'
            )
        self.prob = prob

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Any:
        """Draw the parameters of `apply` for an image of this size."""
        return None

    def apply(self, img: np.ndarray, params: Any) -> np.ndarray:
        """Give the transformed image; (H, W, 3) uint8 RGB, not written to."""
        raise NotImplementedError

    def transform(self, results: dict) -> dict:
        """Transform results['img'] with numbers from results['rng']."""
        if results.get('rng') is None:
            # Kept for the transforms that follow: they must not start again
            # from the same numbers.
            results['rng'] = sample_rng(
                results.get('sample_idx'), OUTSIDE_VIEWS
            )
        rng, img = results['rng'], results['img']
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
        ValueError: What was given to which argument of `owner`, and what
            numbers are expected.
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
