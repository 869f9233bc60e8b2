"""Average precision by hand, and against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from swav_plugin.evaluation.average_precision import average_precision
from tests.test_evaluation.voc import reference_ap


def test_average_precision_by_hand() -> None:
    # Ranks 1 and 4 of 5 are positive: precision 1 at recall 1/2, 2/4 at 1.
    scores = torch.tensor([[0.9], [0.8], [0.7], [0.6], [0.5]])
    positive = torch.tensor([[1], [0], [0], [1], [0]]).bool()
    counted = torch.ones_like(positive)
    for interpolate in (True, False):
        assert average_precision(
            scores, positive, counted, interpolate
        ).tolist() == [0.75]
    # Ranks 2 and 3: 1/2 at recall 1/2, but 2/3 beyond it.
    positive = torch.tensor([[0], [1], [1], [0], [0]]).bool()
    assert average_precision(scores, positive, counted).item() == (
        pytest.approx(2 / 3)
    )
    assert average_precision(
        scores, positive, counted, interpolate=False
    ).item() == (pytest.approx((1 / 2 + 2 / 3) / 2))
    # The second image is not counted: ranks 1 and 2 of 4.
    counted = counted.clone()
    counted[0] = False
    assert average_precision(scores, positive, counted).item() == 1


@pytest.mark.parametrize('has_ties', [False, True])
def test_average_precision_is_scikit_learns(has_ties: bool) -> None:
    rng = np.random.default_rng(0)
    scores = (
        rng.integers(8, size=(60, 5))
        if has_ties
        else (rng.normal(size=(60, 5)))
    )
    positive = rng.random((60, 5)) < 0.3
    counted = rng.random((60, 5)) < 0.8
    ours = average_precision(
        torch.tensor(scores),
        torch.tensor(positive),
        torch.tensor(counted),
        interpolate=False,
    )
    for c in range(5):
        kept = counted[:, c]
        assert ours[c].item() == pytest.approx(
            average_precision_score(positive[kept, c], scores[kept, c]),
            abs=1e-12,
        )


def test_interpolated_average_precision_is_mmselfsups() -> None:
    rng = np.random.default_rng(0)
    scores, positive = rng.normal(size=(60, 5)), rng.random((60, 5)) < 0.3
    ours = average_precision(
        torch.tensor(scores),
        torch.tensor(positive),
        torch.ones(60, 5, dtype=torch.bool),
    )
    plain = average_precision(
        torch.tensor(scores),
        torch.tensor(positive),
        torch.ones(60, 5, dtype=torch.bool),
        interpolate=False,
    )
    expected = [reference_ap(*column) for column in zip(scores.T, positive.T)]
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-12)
    assert (ours > plain).all()


def test_images_with_equal_scores_enter_together() -> None:
    # 1 of 2 at the top, then 2 of 3; their order in the set does not matter.
    for positive in ([1, 0, 1], [0, 1, 1]):
        ap = average_precision(
            torch.tensor([[2.0], [2.0], [1.0]]),
            torch.tensor(positive)[:, None].bool(),
            torch.ones(3, 1, dtype=torch.bool),
        )
        assert ap.item() == pytest.approx(2 / 3)
