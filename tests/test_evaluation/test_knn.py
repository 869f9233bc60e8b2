"""kNN against brute force in float64."""

import numpy as np
import pytest
import torch

from swav_plugin.evaluation import knn, knn_predict, nearest_neighbors
from swav_plugin.evaluation.feature_store import (
    FeatureSet,
    Labels,
    ShardedRows,
)
from swav_plugin.evaluation.knn import KNN, count_hits
from tests.distributed import run_on_ranks

BLOCKS = [(2048, 2**14), (3, 7), (1, 1)]


def brute_force(
    bank: np.ndarray, queries: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and order of the whole bank for each query, in float64."""
    bank = bank / np.linalg.norm(bank, axis=1, keepdims=True)
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    cosines = queries @ bank.T
    return cosines, np.argsort(-cosines, axis=1, kind='stable')


def brute_force_votes(
    bank: np.ndarray,
    labels: np.ndarray,
    queries: np.ndarray,
    k: int,
    temperature: float,
    num_classes: int,
) -> np.ndarray:
    votes = np.zeros((len(queries), num_classes))
    for row, cosines, order in zip(votes, *brute_force(bank, queries)):
        for place in order[:k]:
            row[labels[place]] += np.exp(cosines[place] / temperature)
    return votes


def set_blocks(patch: pytest.MonkeyPatch, blocks: tuple[int, int]) -> None:
    patch.setattr(knn, '_QUERY_ROWS', blocks[0])
    patch.setattr(knn, '_BANK_ROWS', blocks[1])


@pytest.mark.parametrize('k', [1, 5, 40])
@pytest.mark.parametrize('blocks', BLOCKS)
def test_votes_equal_brute_force(
    k: int, blocks: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_blocks(monkeypatch, blocks)
    rng = np.random.default_rng(0)
    bank, queries = rng.normal(size=(40, 8)), rng.normal(size=(11, 8))
    labels = rng.integers(7, size=40)
    expected = brute_force_votes(bank, labels, queries, k, 0.07, 7)
    votes = knn_predict(
        torch.tensor(bank),
        torch.tensor(labels),
        torch.tensor(queries),
        k,
        0.07,
        7,
    )
    # exp(cosine / 0.07) turns rounding of 1e-7 into 2e-6.
    np.testing.assert_allclose(votes.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize('blocks', BLOCKS)
@pytest.mark.parametrize('k', [1, 2, 5, 6, 23, 30])
def test_first_of_equally_near_neighbors_counts(
    k: int, blocks: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Signs have cosines that float32 holds exactly, and many equal ones.
    set_blocks(monkeypatch, blocks)
    rng = np.random.default_rng(1)
    bank = rng.choice([-1.0, 1.0], size=(30, 4))
    queries = rng.choice([-1.0, 1.0], size=(9, 4))
    expected_cosines, order = brute_force(bank, queries)
    cosines, places = nearest_neighbors(
        torch.tensor(bank), torch.tensor(queries), k
    )
    np.testing.assert_array_equal(places.numpy(), order[:, :k])
    np.testing.assert_array_equal(
        cosines.numpy(),
        np.take_along_axis(expected_cosines, order[:, :k], axis=1),
    )


def test_a_cold_temperature_neither_overflows_nor_ties() -> None:
    votes = knn_predict(
        torch.tensor([[1.0, 0.0], [1.0, 0.01]]),
        torch.tensor([0, 1]),
        torch.tensor([[1.0, 0.0]]),
        2,
        0.005,
        2,
    )
    assert votes.isfinite().all() and votes[0, 0] > votes[0, 1]


def test_hits_and_their_ties() -> None:
    votes = torch.tensor(
        [
            [3.0, 1.0, 3.0, 0.0],  # 0, 2, 1; class 3 has no vote
            [0.0, 0.0, 0.0, 1.0],
        ]
    )
    for label, place in ((0, 1), (2, 2), (1, 3)):
        hits = [
            count_hits(votes[:1], torch.tensor([label]), top)
            for top in (1, 2, 3)
        ]
        assert hits == [int(place <= top) for top in (1, 2, 3)]
    # A class without votes is no hit, though it would be among five.
    assert count_hits(votes, torch.tensor([3, 0]), top=5) == 0
    assert count_hits(votes, torch.tensor([1, 3]), top=5) == 2


def make_sets(
    num_bank: int = 60, num_test: int = 25
) -> tuple[FeatureSet, FeatureSet]:
    """Three overlapping clusters, the bank in two shards of float16."""
    rng = np.random.default_rng(2)
    sets = []
    for name, num in (('bank', num_bank), ('test', num_test)):
        labels = rng.integers(3, size=num)
        features = torch.tensor(
            np.eye(3, 6)[labels] + 0.8 * rng.normal(size=(num, 6))
        ).half()
        sets.append(
            FeatureSet(
                Labels(name, torch.tensor(labels), ('a', 'b', 'c')),
                {'avgpool': ShardedRows([features[:20], features[20:]])},
            )
        )
    return sets[0], sets[1]


def test_accuracies_equal_brute_force() -> None:
    bank, test = make_sets()
    results = {r.name: r for r in KNN(k=(20, 1, 7)).evaluate(bank, test)}
    assert len(results) == 6
    vectors = [s.features['avgpool'][:].double().numpy() for s in (bank, test)]
    bank_labels, labels = [s.labels.values.numpy() for s in (bank, test)]
    for k in (1, 7, 20):
        votes = brute_force_votes(
            vectors[0], bank_labels, vectors[1], k, 0.07, 3
        )
        accuracy = 100 * (votes.argmax(1) == labels).mean()
        assert 40 < accuracy < 99
        result = results[f'avgpool/knn{k}_top1']
        assert result.value == pytest.approx(accuracy)
        assert str(result.protocol) == (
            f'avgpool, k={k}, T=0.07, cosine, votes exp(cos/T), bank of 60, '
            '25 test images'
        )
        assert result.to_dict()['fields'] == dict(
            feature='avgpool',
            train_set='',
            test_set='',
            num_train_images=60,
            num_test_images=25,
            num_train_unreadable=0,
            num_test_unreadable=0,
            k=k,
            temperature=0.07,
            top=1,
        )
        has_vote = votes[np.arange(25), labels] > 0
        assert results[f'avgpool/knn{k}_top5'].value == pytest.approx(
            100 * has_vote.mean()
        )


def _evaluate(rank: int, num_test: int) -> list:
    knn._QUERY_ROWS = 4
    return KNN(k=(1, 5)).evaluate(*make_sets(num_test=num_test))


@pytest.mark.parametrize('num_test', [25, 3])
def test_ranks_share_the_queries(num_test: int) -> None:
    # With 3 queries the second rank has none.
    (one,) = run_on_ranks(_evaluate, 1, num_test)
    for of_rank in run_on_ranks(_evaluate, 2, num_test):
        assert of_rank == one


def test_what_can_not_work_is_refused() -> None:
    bank, labels = torch.eye(3), torch.tensor([0, 1, 2])
    with pytest.raises(ValueError, match='k=4 neighbors and a bank of 3'):
        knn_predict(bank, labels, bank, 4, 0.07, 3)
    with pytest.raises(ValueError, match='between 0 and 2; expected 0 to'):
        knn_predict(bank, labels, bank, 1, 0.07, 2)
    with pytest.raises(ValueError, match='temperature=0.001; exp'):
        KNN(temperature=0.001)


def test_sets_are_checked_before_features_are_made() -> None:
    three = Labels('bank set', torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match='k=10 neighbors and a bank of 3'):
        KNN(k=(1, 10)).check(three, three)
    with pytest.raises(ValueError, match='k=0 neighbors'):
        KNN(k=(0, 1)).check(three, three)
    with pytest.raises(
        ValueError,
        match='test set has labels up to 4, but bank set only up to 2',
    ):
        KNN(k=[1]).check(three, Labels('test set', torch.tensor([4])))
    with pytest.raises(ValueError, match='between 0 and 2; expected 0 to 1'):
        KNN(k=[1]).check(Labels('b', three.values, ('x', 'y')), three)
    with pytest.raises(ValueError, match='b have several labels each'):
        KNN(k=[1]).check(Labels('b', torch.ones(3, 2)), three)


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason='needs a CUDA device'
)
def test_neighbors_on_the_gpu_are_those_of_the_cpu() -> None:
    torch.manual_seed(0)
    bank, queries = torch.randn(5000, 64).half(), torch.randn(3000, 64)
    cosines, places = nearest_neighbors(bank, queries, 50)
    on_gpu, gpu_places = nearest_neighbors(bank, queries.cuda(), 50)
    torch.testing.assert_close(on_gpu.cpu(), cosines)
    assert (gpu_places.cpu() == places).float().mean() > 0.999
