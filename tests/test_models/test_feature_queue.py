"""FeatureQueue: order, ranks, checkpoints."""

import io

import pytest
import torch
from mmengine.runner.checkpoint import get_state_dict
from torch import Tensor

from swav_plugin.models import FeatureQueue
from tests.distributed import run_on_ranks


def batch(first: int, num_images: int = 2) -> Tensor:
    """(2, num_images, 1): rows first, first + 1, ...; second view negated."""
    rows = torch.arange(first, first + num_images).float()[:, None]
    return torch.stack([rows, -rows])


def test_newest_rows_come_first_and_oldest_leave() -> None:
    queue = FeatureQueue(num_views=2, length=4, feat_dim=1)
    for first in (1, 3, 5):
        queue.push(batch(first))
    assert queue.features[0].flatten().tolist() == [5, 6, 3, 4]
    assert queue.features[1].flatten().tolist() == [-5, -6, -3, -4]


def test_it_is_full_once_every_row_is_written() -> None:
    queue = FeatureQueue(2, 6, 1)
    seen = []
    for first in (1, 3, 5, 7):
        queue.push(batch(first))
        seen.append(queue.is_full)
    assert seen == [False, False, True, True]


def test_a_batch_larger_than_the_queue_is_refused() -> None:
    with pytest.raises(ValueError, match='8 images .* queue of 6'):
        FeatureQueue(2, 6, 1).push(batch(0, num_images=8))


def test_it_keeps_no_graph_and_stays_float32() -> None:
    queue = FeatureQueue(2, 4, 1)
    queue.push(batch(1).bfloat16().requires_grad_())
    assert queue.features.dtype == torch.float32
    assert not queue.features.requires_grad


def test_in_a_double_model_it_is_float64() -> None:
    queue = FeatureQueue(2, 4, 1).double()
    queue.push(batch(1).double() / 3)
    assert queue.features[0].flatten().tolist() == [1 / 3, 2 / 3, 0, 0]


def test_a_checkpoint_restores_content_and_fill() -> None:
    queue = FeatureQueue(2, 4, 1)
    queue.push(batch(1))
    file = io.BytesIO()
    torch.save(get_state_dict(queue), file)  # what mmengine saves
    file.seek(0)
    other = FeatureQueue(2, 4, 1)
    other.load_state_dict(torch.load(file, weights_only=True))
    for q in (queue, other):
        q.push(batch(3))
    assert other.is_full
    assert torch.equal(other.features, queue.features)


@pytest.mark.parametrize(
    'length,rows,is_full', [(2, [5, 6], True), (6, [5, 6, 3, 4, 0, 0], False)]
)
def test_a_checkpoint_of_another_length_gives_its_newest_rows(
    length: int, rows: list, is_full: bool
) -> None:
    queue = FeatureQueue(2, 4, 1)
    for first in (1, 3, 5):
        queue.push(batch(first))
    other = FeatureQueue(2, length, 1)
    other.load_state_dict(queue.state_dict())
    assert other.features[0].flatten().tolist() == rows
    assert other.is_full == is_full


def test_a_checkpoint_of_another_embedding_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r'\(2, 4, 3\) and .* \(2, 4, 1\)'):
        FeatureQueue(2, 4, 1).load_state_dict(
            FeatureQueue(2, 4, 3).state_dict()
        )


def _fill(rank: int) -> tuple[Tensor, Tensor]:
    queue = FeatureQueue(2, 8, 1)
    world_size = torch.distributed.get_world_size()
    for first in (0, 4, 8):
        queue.push(batch(first, 4)[:, rank::world_size])
    return queue.features, queue.shard()


@pytest.mark.parametrize('world_size', [1, 2, 4])
def test_ranks_hold_the_same_queue_and_share_its_rows(world_size: int) -> None:
    results = run_on_ranks(_fill, world_size)
    features, shards = zip(*results)
    assert all(torch.equal(f, features[0]) for f in features)
    rows = torch.cat(shards, dim=1)[0].flatten().sort().values
    assert rows.tolist() == [4, 5, 6, 7, 8, 9, 10, 11]
    assert {s.shape[1] for s in shards} == {8 // world_size}
