"""SVMs against LIBLINEAR."""

import numpy as np
import pytest
import torch

from swav_plugin.evaluation.svm import COSTS
from swav_plugin.evaluation.svm_solver import fit_svms
from tests.test_evaluation.voc import liblinear, make_voc, unit


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
    train_x, train_y, _, _ = make_voc()
    x = torch.tensor(unit(train_x))
    targets = torch.where(train_y == 1, 1.0, -1.0).double()
    with pytest.raises(RuntimeError, match='3 of 3 SVMs did not converge'):
        fit_svms(x @ x.T, targets, torch.ones_like(targets), max_steps=1)
