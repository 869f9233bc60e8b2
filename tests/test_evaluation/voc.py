"""Made-up VOC07: features, and the reference procedure one step at a time."""

import numpy as np
import torch
from sklearn.svm import LinearSVC
from torch import Tensor


def make_voc(
    num_train: int = 90, num_test: int = 70, num_classes: int = 3
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Make noisy features of images that may have several classes."""
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
    """Make the SVM that mmselfsup trains, but let it converge."""
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


def reference_ap(scores: np.ndarray, positive: np.ndarray) -> float:
    """Compute AP as mmselfsup, one step of recall at a time (no ties)."""
    order = np.argsort(-scores)
    hits = positive[order]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    recall = np.cumsum(hits) / hits.sum()
    area, last = 0.0, 0.0
    for i in range(len(hits)):
        area += (recall[i] - last) * precision[i:].max()
        last = recall[i]
    return area
