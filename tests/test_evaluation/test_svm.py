"""SVMs against LIBLINEAR, average precision by hand, folds, samples."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.svm import LinearSVC
from torch import Tensor

from swav_plugin.evaluation.feature_store import (
    FeatureSet,
    Labels,
    ShardedRows,
)
from swav_plugin.evaluation.svm import (
    COSTS,
    VOC07SVM,
    average_precision,
    draw_samples,
    fit_svms,
    low_shot_map,
    stratified_folds,
    svm_map,
)
from tests.distributed import run_on_ranks


def make_voc(
    num_train: int = 90, num_test: int = 70, num_classes: int = 3
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Noisy features of images that may have several classes."""
    rng = np.random.default_rng(0)
    num = num_train + num_test
    marks = (rng.random((num, num_classes)) < 0.3).astype(np.int8)
    features = marks @ rng.normal(size=(num_classes, 24))
    # Positive, as after a ReLU: one direction then has most of the variance.
    features = np.maximum(features + 2 * rng.normal(size=(num, 24)) + 1, 0)
    marks[rng.random(marks.shape) < 0.1] = -1
    x, y = torch.tensor(features).float(), torch.tensor(marks)
    return x[:num_train], y[:num_train], x[num_train:], y[num_train:]


def unit(features: Tensor) -> np.ndarray:
    features = features.double().numpy()
    return features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-5)


def liblinear(cost: float) -> LinearSVC:
    """As the reference calls it, but to convergence."""
    return LinearSVC(
        C=cost,
        penalty='l2',
        loss='squared_hinge',
        dual=True,
        tol=1e-9,
        class_weight={1: 2, -1: 1},
        max_iter=1_000_000,
        random_state=0,
    )


@pytest.mark.parametrize('cost', [COSTS[-1], 0.5**8, 1.0, 10.0, 100.0])
def test_svms_are_liblinears(cost: float) -> None:
    train_x, train_y, _, _ = make_voc()
    x = unit(train_x)
    targets = np.where(train_y == 1, 1, -1)
    weights = cost * np.where(targets > 0, 2.0, 1.0)
    gram = torch.tensor(x @ x.T + 1)
    beta = fit_svms(
        gram, torch.tensor(targets).double(), torch.tensor(weights)
    ).numpy()
    for c in range(3):
        theirs = liblinear(cost).fit(x, targets[:, c])
        w, bias = x.T @ beta[:, c], beta[:, c].sum()
        np.testing.assert_allclose(
            np.append(w, bias),
            np.append(theirs.coef_, theirs.intercept_),
            atol=2e-5 * np.linalg.norm(w),
        )


def test_side_by_side_is_one_by_one() -> None:
    # Batches, columns, images left out and a warm start change nothing.
    train_x, train_y, _, _ = make_voc()
    x = torch.tensor(unit(train_x))
    targets = torch.where(train_y == 1, 1.0, -1.0).double()
    weights = torch.ones(90, 3).double()
    weights[:30, 1] = 0
    grams = torch.stack([x @ x.T + 1, 2 * x @ x.T + 1])
    together = fit_svms(
        grams, targets.expand(2, -1, -1), 10 * weights.expand(2, -1, -1)
    )
    for gram, betas in zip(grams, together):
        warm = fit_svms(gram, targets, 3 * weights)
        warm = fit_svms(gram, targets, 10 * weights, start=warm)
        for c in range(3):
            kept = weights[:, c] > 0
            alone = fit_svms(
                gram[kept][:, kept],
                targets[kept, c : c + 1],
                10 * weights[kept, c : c + 1],
            )
            scores = gram[:, kept] @ alone
            torch.testing.assert_close(
                gram @ betas[:, c : c + 1], scores, rtol=0, atol=1e-3
            )
            torch.testing.assert_close(
                gram @ warm[:, c : c + 1], scores, rtol=0, atol=1e-3
            )


def test_what_is_solved_rests_while_the_others_go_on() -> None:
    # Else conjugate gradients chase the rounding of a solution for long.
    train_x, train_y, _, _ = make_voc()
    x = torch.tensor(unit(train_x))
    gram = torch.stack([x @ x.T + 1] * 2)
    targets = torch.where(train_y == 1, 1.0, -1.0).double().expand(2, -1, -1)
    weights = torch.full_like(targets, 10)
    start = fit_svms(gram, targets, weights, tolerance=1e-7)
    start[1] = 0
    again = fit_svms(gram, targets, weights, start)
    torch.testing.assert_close(again[0], start[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(
        gram @ again, gram @ start[[0, 0]], rtol=0, atol=1e-3
    )


def test_few_directions_and_a_large_cost_converge() -> None:
    # Conjugate gradients solve some columns exactly, long before others.
    rng = np.random.default_rng(0)
    train_y = torch.tensor(rng.random((150, 20)) < 0.07).to(torch.int8)
    train_x = torch.tensor(rng.normal(size=(150, 16)) + 1).relu().float()
    x = torch.tensor(unit(train_x))
    targets = torch.where(train_y == 1, 1.0, -1.0).double()
    weights = 100 * torch.where(targets > 0, 2.0, 1.0).double()
    beta = fit_svms(x @ x.T + 1, targets, weights)
    for c in range(0, 20, 6):
        theirs = liblinear(100).fit(x.numpy(), targets[:, c].numpy())
        np.testing.assert_allclose(
            np.append(x.T @ beta[:, c], beta[:, c].sum()),
            np.append(theirs.coef_, theirs.intercept_),
            atol=1e-4 * np.linalg.norm(theirs.coef_),
        )


def test_svms_that_did_not_converge_are_an_error() -> None:
    train_x, train_y, test_x, test_y = make_voc()
    x = torch.tensor(unit(train_x))
    targets = torch.where(train_y == 1, 1.0, -1.0).double()
    with pytest.raises(RuntimeError, match='3 of 3 SVMs did not converge'):
        fit_svms(x @ x.T, targets, torch.ones_like(targets), max_steps=1)
    train_x[3, 3] = torch.nan
    with pytest.raises(ValueError, match='not finite'):
        svm_map(train_x, train_y, test_x, test_y)


def reference_ap(scores: np.ndarray, positive: np.ndarray) -> float:
    """The page's, one step of recall after the other (no equal scores)."""
    order = np.argsort(-scores)
    hits = positive[order]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    recall = np.cumsum(hits) / hits.sum()
    area, last = 0.0, 0.0
    for i in range(len(hits)):
        area += (recall[i] - last) * precision[i:].max()
        last = recall[i]
    return area


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


def test_interpolated_average_precision_is_the_pages() -> None:
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
    # 1 of 2 at the top, then 2 of 3; their order in the set is no matter.
    for positive in ([1, 0, 1], [0, 1, 1]):
        ap = average_precision(
            torch.tensor([[2.0], [2.0], [1.0]]),
            torch.tensor(positive)[:, None].bool(),
            torch.ones(3, 1, dtype=torch.bool),
        )
        assert ap.item() == pytest.approx(2 / 3)


@pytest.mark.parametrize('num_folds', [2, 3, 5])
def test_folds_are_scikit_learns(num_folds: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        positive = rng.random(int(rng.integers(20, 50))) < 0.3
        folds = stratified_folds(torch.tensor(positive), num_folds)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # few members
            splits = StratifiedKFold(num_folds).split(positive, positive)
            for fold, (_, held_out) in enumerate(splits):
                assert (folds == fold).nonzero().flatten().tolist() == (
                    held_out.tolist()
                )


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


def test_samples_have_k_positive_and_19k_negative_images() -> None:
    _, labels, _, _ = make_voc(num_train=400, num_classes=4)
    samples = draw_samples(labels, 7, 5, seed=1)
    assert samples.shape == (5, 4, 28)
    for sample in samples:
        for c, places in enumerate(sample):
            assert len(set(places.tolist())) == 28
            assert labels[places, c].tolist() == [1] * 7 + [0] * 21
    assert len({tuple(s.flatten().tolist()) for s in samples}) == 5
    assert torch.equal(samples, draw_samples(labels, 7, 5, seed=1))
    assert not torch.equal(samples, draw_samples(labels, 7, 5, seed=2))


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


def make_sets() -> tuple[FeatureSet, FeatureSet]:
    train_x, train_y, test_x, test_y = make_voc()
    noise = torch.Generator().manual_seed(0)
    return tuple(
        FeatureSet(
            Labels(name, y),
            dict(
                feature4=ShardedRows(
                    [torch.randn(len(x), 5, generator=noise)]
                ),
                feature5=ShardedRows([x]),
            ),
        )
        for name, x, y in (
            ('bank', train_x, train_y),
            ('test', test_x, test_y),
        )
    )


def _evaluate(rank: int) -> list:
    return VOC07SVM([1.0, 0.1], low_shot_k=[2, 5]).evaluate(*make_sets())


def test_every_number_is_named_with_its_protocol() -> None:
    results = _evaluate(0)
    x, test = make_sets()
    full = svm_map(
        x.features['feature5'][:],
        x.labels.values,
        test.features['feature5'][:],
        test.labels.values,
        [1.0, 0.1],
    )
    values = {result.name: result.value for result in results}
    assert list(values) == [
        'feature4/svm_map',
        'feature5/svm_map',
        'svm_map_best_by_test',
        'svm_map_best_by_cv',
        'feature5/svm_k2_map_by_test',
        'feature5/svm_k2_map_by_cv',
        'feature5/svm_k5_map_by_test',
        'feature5/svm_k5_map_by_cv',
    ]
    assert values['feature5/svm_map'] == full.map_cv
    assert values['feature5/svm_map'] > values['feature4/svm_map'] + 5
    protocols = [result.protocol for result in results]
    assert (
        'by 3-fold cross-validation as on the page, 2 costs, all-point '
        'AP, 90 training and 70 test images'
    ) in protocols[0]
    assert 'feature5, the best feature chosen by cross' in protocols[3]
    assert 'chosen on the test set as on the page' in protocols[4]
    assert 'mean of 5 samples (seed 0; ' in protocols[4]
    assert 'on training images of the other samples' in protocols[5]


def test_ranks_share_the_work() -> None:
    for of_rank in run_on_ranks(_evaluate, 2):
        assert of_rank == _evaluate(0)


def test_sets_are_checked_before_features_are_made() -> None:
    _, labels, _, _ = make_voc()
    marks, single = Labels('bank set', labels), Labels('s', torch.arange(3))
    evaluator = VOC07SVM(low_shot_k=[2])
    evaluator.check(marks, marks)
    with pytest.raises(ValueError, match='images of s have one class each'):
        evaluator.check(marks, single)
    other = Labels('bank set', labels.clone().fill_diagonal_(7))
    with pytest.raises(ValueError, match=r'bank set are \[-1, 0, 1, 7\]'):
        evaluator.check(other, marks)
    with pytest.raises(ValueError, match='bank set has 3 classes and t 2'):
        evaluator.check(marks, Labels('t', labels[:, :2]))
    with pytest.raises(
        ValueError,
        match='k=40 needs 40 positive images of each class but class 1 has 15',
    ):
        VOC07SVM(low_shot_k=[2, 40]).check(marks, marks)
    few = labels.clone()
    few[2:, 1] = 0
    with pytest.raises(ValueError, match='3 folds need 3 positive images'):
        evaluator.check(Labels('bank set', few), marks)
    with pytest.raises(ValueError, match='num_samples=1; it needs at least 2'):
        VOC07SVM(num_samples=1)
