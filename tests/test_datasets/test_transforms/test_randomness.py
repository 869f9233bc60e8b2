"""The numbers of a sample depend on its key, and on nothing else."""

import functools
import random
import warnings

import numpy as np
import pytest
import torch
from mmengine.dataset import worker_init_fn
from torch.utils.data import DataLoader

from swav_plugin.datasets import SampleKey
from swav_plugin.datasets.transforms import (
    RandomTransform,
    randomness,
    sample_rng,
)


class AddNoise(RandomTransform):
    """Put one random number into an image of one pixel."""

    def draw(self, rng: np.random.Generator, height: int, width: int) -> float:
        return rng.random()

    def apply(self, img: np.ndarray, params: float) -> np.ndarray:
        return img + params


@pytest.fixture(autouse=True)
def forget_warning() -> None:
    """Let the warning that comes once come again."""
    randomness._warn_not_keyed.cache_clear()


def test_every_part_of_the_key_counts() -> None:
    keys = [
        (SampleKey(index, epoch, seed), name, view)
        for index in range(4)
        for epoch in range(4)
        for seed in range(4)
        for name in ('RandomFlip', 'GaussianBlur')
        for view in (0, 1, 2, 9)
    ]
    first = [sample_rng(*key).integers(2**63) for key in keys]
    again = [sample_rng(*key).integers(2**63) for key in reversed(keys)]
    assert first == again[::-1]
    assert len(set(first)) == len(keys)


def test_plain_index_is_new_every_time_and_warns_once() -> None:
    with pytest.warns(UserWarning, match=r"dict\(type='KeyedSampler'\)"):
        first = sample_rng(7, 'RandomFlip').random()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert sample_rng(7, 'RandomFlip').random() != first


class PlainSamples(torch.utils.data.Dataset):
    """Draws one number for each plain index."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return sample_rng(index, 'RandomFlip').random()


@pytest.mark.parametrize(
    'num_workers, persistent', [(0, False), (2, False), (2, True)]
)
def test_plain_index_differs_in_epochs_and_workers(
    num_workers: int, persistent: bool
) -> None:
    # mmengine's worker_init_fn seeds torch alike at the start of each epoch.
    loader = DataLoader(
        PlainSamples(),
        batch_size=None,
        num_workers=num_workers,
        persistent_workers=persistent,
        worker_init_fn=functools.partial(
            worker_init_fn, num_workers=num_workers, rank=0, seed=31
        ),
    )
    drawn = [number for _ in range(3) for number in loader]
    assert len(set(drawn)) == 12


def test_transforms_outside_multi_view_are_keyed() -> None:
    key = SampleKey(7, epoch=2, seed=31)
    pixel = np.zeros((1, 1, 3))
    first, second = (
        AddNoise()(dict(img=pixel, sample_idx=key)) for _ in range(2)
    )
    assert first['img'][0, 0, 0] == second['img'][0, 0, 0] != 0
    other = AddNoise()(dict(img=pixel, sample_idx=SampleKey(7, 3, 31)))
    assert other['img'][0, 0, 0] != first['img'][0, 0, 0]


def test_one_transform_after_another_gets_new_numbers() -> None:
    results = dict(
        img=np.zeros((1, 1, 3)), sample_idx=SampleKey(7, epoch=2, seed=31)
    )
    first = AddNoise()(results)['img'][0, 0, 0]
    both = AddNoise()(results)['img'][0, 0, 0]
    assert both - first != first


def test_prob_zero_and_one() -> None:
    pixel = np.zeros((1, 1, 3))
    for index in range(50):
        results = dict(img=pixel, sample_idx=SampleKey(index, 0, 0))
        assert AddNoise(prob=0.0)(dict(results))['img'] is pixel
        assert AddNoise(prob=1.0)(dict(results))['img'][0, 0, 0] > 0


@pytest.mark.parametrize('prob', [-0.1, 50, float('nan')])
def test_prob_must_be_a_probability(prob: float) -> None:
    with pytest.raises(ValueError, match='AddNoise got prob='):
        AddNoise(prob)


def draw_global() -> tuple[float, float, float]:
    """Draw a number from each of the global generators."""
    return random.random(), np.random.rand(), torch.rand(()).item()


def test_global_generators_are_keyed_and_restored() -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    untouched = [draw_global() for _ in range(3)]
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    inside = []
    outside = []
    for _ in range(3):
        outside.append(draw_global())
        with randomness.global_generators_from(np.random.default_rng(5)):
            inside.append(draw_global())
    assert outside == untouched
    assert inside[0] == inside[1] == inside[2]


def test_global_generators_are_restored_after_an_error() -> None:
    state = random.getstate()
    with pytest.raises(KeyError):
        with randomness.global_generators_from(np.random.default_rng(5)):
            draw_global()
            raise KeyError
    assert random.getstate() == state
