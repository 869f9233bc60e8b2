"""Neighbors and near-duplicates against NumPy and SciPy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from swav_plugin.inference import neighbours as module
from swav_plugin.inference.neighbours import near_duplicates, nearest_others


def vectors(num: int, seed: int = 0) -> Tensor:
    """Integers whose cosines are all distinct or exactly equal."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 50, (num, 4), generator=generator).float()


def cosines_of(features: Tensor, queries: Tensor) -> np.ndarray:
    """(Q, N) in float64."""
    queries = F.normalize(queries.double(), dim=1)
    return (queries @ F.normalize(features.double(), dim=1).T).numpy()


@pytest.mark.parametrize('k', [1, 5, 29])
def test_each_image_finds_the_others(k: int) -> None:
    features = vectors(30)
    own = torch.arange(30)
    cosines, indices = nearest_others(features, features, own, k)
    expected = cosines_of(features, features)
    np.fill_diagonal(expected, -2)
    order = (-expected).argsort(1, kind='stable')[:, :k]
    assert indices.tolist() == order.tolist()
    # float32: D = 4 products and two norms, 2**-24 each.
    np.testing.assert_allclose(
        cosines, np.take_along_axis(expected, order, 1), atol=1e-6, rtol=0
    )


def test_queries_from_elsewhere_may_find_all() -> None:
    features, queries = vectors(6), vectors(3, seed=1)
    own = torch.full((3,), -1)
    _, indices = nearest_others(features, queries, own, 6)
    assert indices.sort(1).values.tolist() == [[*range(6)]] * 3
    assert nearest_others(features, queries, own, 99)[1].shape == (3, 6)
    # One of them is image 4: it is left out, the others are not.
    own[1], queries[1] = 4, features[4]
    _, indices = nearest_others(features, queries, own, 5)
    assert sorted(indices[1].tolist()) == [0, 1, 2, 3, 5]
    expected = (-cosines_of(features, queries)).argsort(1, kind='stable')
    assert indices[0].tolist() == expected[0, :5].tolist()


def test_copies_are_found_in_order() -> None:
    features = torch.ones(5, 3)  # all equal: the first come first
    _, indices = nearest_others(features, features, torch.arange(5), 2)
    assert indices.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1]]
    with pytest.raises(ValueError, match='got k=0'):
        nearest_others(features, features, torch.arange(5), 0)


def test_a_single_image_has_no_neighbor() -> None:
    one = torch.ones(1, 3)
    cosines, indices = nearest_others(one, one, torch.arange(1), 10)
    assert cosines.shape == indices.shape == (1, 0)
    groups, nearest = near_duplicates(one, 0.5)
    assert groups == [] and nearest.tolist() == [-1]


@pytest.mark.parametrize('block', [1, 7, 64, 2048])
@pytest.mark.parametrize('threshold', [0.9, 0.97, 0.999])
def test_groups_equal_scipys_components(
    block: int, threshold: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = pytest.importorskip('scipy.sparse.csgraph')
    monkeypatch.setattr(module, '_BLOCK_ROWS', block)
    features = vectors(120)
    cosines = cosines_of(features, features)
    np.fill_diagonal(cosines, -1)
    # Where no cosine is close by, so that rounding does not matter.
    around = np.linspace(threshold - 1e-3, threshold + 5e-4, 301)
    gaps = abs(around[:, None] - cosines.ravel()).min(1)
    threshold = float(around[gaps.argmax()])
    assert gaps.max() > 1.1e-5
    _, labels = graph.connected_components(cosines >= threshold)
    expected = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    expected = [group.tolist() for group in expected if len(group) > 1]
    expected.sort(key=lambda group: (-len(group), group[0]))
    groups, nearest = near_duplicates(features, threshold)
    assert expected and groups == expected
    np.testing.assert_allclose(nearest, cosines.max(1), atol=1e-6, rtol=0)


def test_a_long_chain_is_one_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, '_BLOCK_ROWS', 8)
    angles = torch.arange(100) * 0.01
    chain = torch.stack([angles.cos(), angles.sin()], dim=1)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    # Neighbors 0.01 rad apart; those 0.02 apart are not alike.
    threshold = float(torch.tensor(0.015).cos())
    monkeypatch.setattr(module, '_ROUNDING', 1e-6)
    groups, _ = near_duplicates(chain[order].double(), threshold)
    assert groups == [[*range(100)]]


def test_copies_have_similarity_one() -> None:
    torch.manual_seed(0)
    features = torch.rand(100, 2048)
    # Rounding leaves the cosines of some of these below 1.
    copies = features * torch.linspace(0.1, 10, 100)[:, None]
    groups, nearest = near_duplicates(torch.cat([features, copies]), 1)
    assert sorted(groups) == [[i, i + 100] for i in range(100)]
    assert nearest.min() > 1 - 1e-5


@pytest.mark.parametrize('threshold', [0, -0.5, 1.01, float('nan')])
def test_a_threshold_out_of_range_is_named(threshold: float) -> None:
    with pytest.raises(ValueError, match=f'got {threshold} as the least'):
        near_duplicates(torch.eye(2), threshold)
