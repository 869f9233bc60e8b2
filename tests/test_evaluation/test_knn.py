"""knn_predict against brute force in float64."""
import numpy as np
import pytest
import torch

from swav_plugin.evaluation import knn, knn_predict


def brute_force(bank: np.ndarray, labels: np.ndarray, queries: np.ndarray,
                k: int, temperature: float, num_classes: int) -> np.ndarray:
    votes = np.zeros((len(queries), num_classes))
    for row, query in zip(votes, queries):
        cosines = bank @ query / np.linalg.norm(bank, axis=1) / np.linalg.norm(
            query)
        for place in np.argsort(-cosines)[:k]:
            row[labels[place]] += np.exp(cosines[place] / temperature)
    return votes


@pytest.mark.parametrize('k', [1, 5, 40])
@pytest.mark.parametrize('block', [2**26, 97])
def test_votes_equal_brute_force(
    k: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knn, '_MAX_SIMILARITIES', block)
    rng = np.random.default_rng(0)
    bank, queries = rng.normal(size=(40, 8)), rng.normal(size=(11, 8))
    labels = rng.integers(7, size=40)
    expected = brute_force(bank, labels, queries, k, 0.07, 7)
    votes = knn_predict(
        torch.tensor(bank), torch.tensor(labels), torch.tensor(queries), k,
        0.07, 7)
    # exp(cosine / 0.07) turns rounding of 1e-7 into 2e-6.
    np.testing.assert_allclose(votes.numpy(), expected, rtol=1e-5)


def test_too_many_neighbours_and_foreign_labels_are_refused() -> None:
    bank, labels = torch.eye(3), torch.tensor([0, 1, 2])
    with pytest.raises(ValueError, match='k=4 neighbours and a bank of 3'):
        knn_predict(bank, labels, bank, 4, 0.07, 3)
    with pytest.raises(ValueError, match='between 0 and 2; expected 0 to'):
        knn_predict(bank, labels, bank, 1, 0.07, 2)
