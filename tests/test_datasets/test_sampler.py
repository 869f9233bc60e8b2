"""KeyedSampler: DefaultSampler's order, with epoch and seed on each index."""

import copy
import pickle

import mmengine.dataset.sampler
import pytest
from mmengine.dataset import DefaultSampler

from swav_plugin.datasets import KeyedSampler, SampleKey
from swav_plugin.registry import DATA_SAMPLERS


def test_key_survives_the_way_to_a_worker() -> None:
    key = SampleKey(7, epoch=3, seed=31)
    for copied in (pickle.loads(pickle.dumps(key)), copy.deepcopy(key)):
        assert copied == 7
        assert (copied.epoch, copied.seed) == (3, 31)


def test_arithmetic_drops_the_key() -> None:
    # RepeatDataset takes `idx % length`: a key kept through that would give
    # all repetitions of an image the same views.
    assert not hasattr(SampleKey(7, epoch=3, seed=31) % 5, 'epoch')


def test_order_is_default_samplers() -> None:
    dataset = range(23)
    ours = KeyedSampler(dataset, seed=31)
    theirs = DefaultSampler(dataset, seed=31)
    orders = []
    for epoch in (0, 1, 5):
        ours.set_epoch(epoch)
        theirs.set_epoch(epoch)
        keys = list(ours)
        assert keys == list(theirs)
        assert {(key.epoch, key.seed) for key in keys} == {(epoch, 31)}
        orders.append(tuple(keys))
    assert len(set(orders)) == 3


def test_epoch_is_that_of_iter_not_of_next() -> None:
    sampler = KeyedSampler(range(4), seed=31)
    keys = iter(sampler)
    sampler.set_epoch(1)
    assert [key.epoch for key in keys] == [0] * 4


def test_two_ranks_share_the_samples_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def sampler_of(rank: int, world_size: int) -> DefaultSampler:
        monkeypatch.setattr(
            mmengine.dataset.sampler,
            'get_dist_info',
            lambda: (rank, world_size),
        )
        return DATA_SAMPLERS.build(
            dict(type='KeyedSampler', dataset=range(10), seed=31)
        )

    one, first, second = (
        list(sampler_of(*r)) for r in ((0, 1), (0, 2), (1, 2))
    )
    assert first == one[::2] and second == one[1::2]
    assert {key.seed for key in first + second} == {31}
