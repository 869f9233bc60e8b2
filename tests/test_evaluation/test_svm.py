"""MAP of SVMs against the reference procedure."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import cross_val_score

from swav_plugin.evaluation.svm import low_shot_map, svm_map
from swav_plugin.evaluation.svm_samples import draw_samples
from tests.test_evaluation.voc import liblinear, make_voc, reference_ap, unit


def test_map_is_that_of_the_reference_procedure() -> None:
    """One fit at a time with scikit-learn, as mmselfsup's scripts do."""
    train_x, train_y, test_x, test_y = make_voc()
    costs = [10.0, 0.1, 0.01, 0.001]
    result = svm_map(train_x, train_y, test_x, test_y, costs)
    x, other_x = unit(train_x), unit(test_x)
    chosen_ap = []
    for c in range(3):
        # Difficult ones are negative in training.
        targets = np.where(train_y[:, c] == 1, 1, -1)
        cv_ap = [
            cross_val_score(
                liblinear(cost), x, targets, cv=3, scoring='average_precision'
            ).mean()
            for cost in costs
        ]
        np.testing.assert_allclose(result.cv_ap[c], cv_ap, atol=1e-9)
        model = liblinear(costs[np.argmax(cv_ap)]).fit(x, targets)
        # And left out of the test.
        kept = test_y[:, c].numpy() != -1
        chosen_ap.append(
            reference_ap(
                model.decision_function(other_x[kept]),
                test_y[kept, c].numpy() == 1,
            )
        )
    assert result.map_cv == pytest.approx(100 * np.mean(chosen_ap), abs=1e-6)
    assert 35 < result.map_cv < 95
    assert len(set(result.chosen.tolist())) > 1


def test_first_of_equally_good_costs_is_chosen() -> None:
    # Images that any SVM tells apart.
    x = torch.eye(2).repeat(6, 1)
    y = torch.eye(2).repeat(6, 1).char()
    result = svm_map(x, y, x, y, [1.0, 10.0, 0.1])
    assert result.chosen.tolist() == [0, 0] and result.map_cv == 100


def test_features_that_are_not_finite_are_an_error() -> None:
    train_x, train_y, test_x, test_y = make_voc()
    train_x[3, 3] = torch.nan
    with pytest.raises(ValueError, match='not finite'):
        svm_map(train_x, train_y, test_x, test_y)


def test_low_shot_map_is_that_of_the_reference_procedure() -> None:
    train_x, train_y, test_x, test_y = make_voc()
    costs, k = [10.0, 1.0, 0.01], 4
    result = low_shot_map(
        train_x, train_y, test_x, test_y, k, costs, num_samples=3, seed=5
    )
    samples = draw_samples(train_y, k, 3, seed=5)
    x, other_x = unit(train_x), unit(test_x)
    test_map, other_map = np.zeros((2, 3, 3))
    for i, sample in enumerate(samples):
        for c, places in enumerate(sample.tolist()):
            others = set(samples[:, c].flatten().tolist()) - set(places)
            kept = test_y[:, c].numpy() != -1
            for j, cost in enumerate(costs):
                model = liblinear(cost).fit(
                    x[places], np.where(train_y[places, c] == 1, 1, -1)
                )
                test_map[i, j] += (
                    reference_ap(
                        model.decision_function(other_x[kept]),
                        test_y[kept, c].numpy() == 1,
                    )
                    / 3
                )
                rows = sorted(others)
                other_map[i, j] += (
                    reference_ap(
                        model.decision_function(x[rows]),
                        train_y[rows, c].numpy() == 1,
                    )
                    / 3
                )
    np.testing.assert_allclose(result.test_map, test_map, atol=1e-9)
    np.testing.assert_allclose(result.other_map, other_map, atol=1e-9)
    by_test = test_map.mean(0).argmax()
    by_cv = other_map.mean(0).argmax()
    np.testing.assert_allclose(result.maps_by_test, 100 * test_map[:, by_test])
    np.testing.assert_allclose(result.maps_by_cv, 100 * test_map[:, by_cv])
