"""Folds and samples: which images SVMs are trained on."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.model_selection import StratifiedKFold

from swav_plugin.evaluation.svm_samples import (
    draw_samples,
    largest_k,
    stratified_folds,
)
from tests.test_evaluation.voc import make_voc


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


def test_samples_have_k_positive_and_19k_negative_images() -> None:
    _, labels, _, _ = make_voc(num_train=400, num_classes=4)
    samples = draw_samples(labels, 7, 5, seed=1)
    assert samples.shape == (5, 4, 28)
    for sample in samples:
        for y, rows in enumerate(sample):
            assert len(set(rows.tolist())) == 28
            assert labels[rows, y].tolist() == [1] * 7 + [0] * 21
    assert len({tuple(s.flatten().tolist()) for s in samples}) == 5
    assert torch.equal(samples, draw_samples(labels, 7, 5, seed=1))
    assert not torch.equal(samples, draw_samples(labels, 7, 5, seed=2))


@pytest.mark.parametrize('num_classes', [1, 2, 4])
def test_largest_k_is_the_last_that_can_be_drawn(num_classes: int) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        marks = rng.choice([1, 0, -1], (20, num_classes), p=[0.2, 0.7, 0.1])
        labels = torch.from_numpy(marks)
        largest = largest_k(labels)
        if largest:
            draw_samples(labels, largest, 1, 0)
        with pytest.raises(ValueError, match='images of each class'):
            draw_samples(labels, largest + 1, 1, 0)
