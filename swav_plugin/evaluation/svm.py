"""mAP of linear SVMs on VOC07, with all labels or with few.

N training images, M test images, D width of a feature, Y classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmengine.device import get_device
from torch import Tensor

from swav_plugin.compat.moved import moved_names

from .average_precision import average_precision
from .svm_samples import (
    DIFFICULT,
    PRESENT,
    check_counts,
    draw_samples,
    stratified_folds,
)
from .svm_solver import fit_svms

__getattr__ = moved_names(__name__)

# mmselfsup's, in its order: the first of equally good costs is chosen.
COSTS = (1.0, 10.0, 100.0, *(0.5**i for i in range(4, 20)))
POSITIVE_WEIGHT = 2.0


class FullResult(NamedTuple):
    """SVMs on all training images.

    Args:
        cv_ap: (Y, number of costs) mean AP over folds of the training set.
        test_ap: (Y, number of costs) AP on the test set.
        chosen: (Y,) column of the cost with the best `cv_ap` of each class.
    """

    cv_ap: Tensor
    test_ap: Tensor
    chosen: Tensor

    @property
    def map_cv(self) -> float:
        """Test mAP in %, costs chosen by cross-validation as in mmselfsup."""
        return self._mean(self.test_ap)

    @property
    def map_of_folds(self) -> float:
        """MAP in % over the folds at the same costs; no test image in it."""
        return self._mean(self.cv_ap)

    def _mean(self, ap: Tensor) -> float:
        return 100 * float(ap.gather(1, self.chosen[:, None]).mean())


@torch.no_grad()
def svm_map(
    train_x: Tensor,
    train_y: Tensor,
    test_x: Tensor,
    test_y: Tensor,
    costs: Sequence[float] = COSTS,
    num_folds: int = 3,
) -> FullResult:
    """Measure features with linear SVMs, one for each class: VOC07's protocol.

    Features are scaled to unit length. For each class a cost is chosen by
    average precision over stratified folds of the training set, and the SVM
    trained again on all of it. Squared hinge loss, positive images count
    twice. Difficult images are negative in training and left out of the test,
    as in mmselfsup.

    Args:
        train_x: (N, D). An (N, N) matrix of float64 has to fit in memory.
        train_y: (N, Y) of 1 present, 0 absent, -1 difficult.
        test_x: (M, D).
        test_y: (M, Y).
        costs: The candidates; of equally good ones the first is chosen.
        num_folds: Each class needs at least as many positive images.

    Raises:
        ValueError: A class has too few images.

    Source: Goyal et al. (arXiv:1905.01235), section 4, in the form of
    mmselfsup's svm_voc07.
    """
    num_present = (train_y == PRESENT).sum(0)
    check_counts(num_present, num_folds, f'{num_folds} folds need')
    gram, test_gram = gram_matrices(train_x, test_x)
    train_y, test_y = train_y.to(gram.device), test_y.to(gram.device)
    # (N, folds + 1, Y): one SVM without each fold, the last with all images.
    positive = (train_y == PRESENT)[:, None].expand(-1, num_folds + 1, -1)
    folds = torch.stack(
        [stratified_folds(column, num_folds) for column in positive[:, 0].T], 1
    )
    numbers = torch.arange(num_folds + 1, device=gram.device)[:, None]
    is_held_out = folds[:, None] == numbers
    targets, weights = _targets_and_weights(positive, gram.dtype)
    targets, weights = [
        x.flatten(1) for x in (targets, weights * ~is_held_out)
    ]
    cv_ap, test_ap = torch.zeros(2, len(num_present), len(costs)).double()
    beta = torch.zeros_like(weights)
    # From small costs to large: each solution starts from the last one.
    for i in sorted(range(len(costs)), key=lambda i: costs[i]):
        beta = fit_svms(gram, targets, costs[i] * weights, beta)
        scores = (gram @ beta).unflatten(1, positive.shape[1:])
        ap = [
            average_precision(
                scores[:, j],
                positive[:, j],
                is_held_out[:, j],
                interpolate=False,
            )
            for j in range(num_folds)
        ]
        cv_ap[:, i] = torch.stack(ap).mean(0)
        scores = test_gram @ beta.unflatten(1, positive.shape[1:])[:, -1]
        test_ap[:, i] = average_precision(
            scores, test_y == PRESENT, test_y != DIFFICULT
        )
    # NumPy's argmax is the first of equal ones; torch's may be any.
    chosen = torch.from_numpy(cv_ap.numpy().argmax(1))
    return FullResult(cv_ap, test_ap, chosen)


class LowShotResult(NamedTuple):
    """SVMs on a few images of each class.

    Args:
        test_map: (number of samples, number of costs) mAP on the test set.
        other_map: (number of samples, number of costs) mAP on the training
            images of the other samples.
    """

    test_map: Tensor
    other_map: Tensor

    @property
    def maps_by_test(self) -> Tensor:
        """Test mAP in % of each sample, at the cost that is best on it.

        As in mmselfsup, which chooses its cost on the test set itself.
        """
        return 100 * self.test_map[:, int(self.test_map.mean(0).argmax())]

    @property
    def maps_by_cv(self) -> Tensor:
        """Test mAP in % of each sample, at the cost best for the others."""
        return 100 * self.test_map[:, int(self.other_map.mean(0).argmax())]


@torch.no_grad()
def low_shot_map(
    train_x: Tensor,
    train_y: Tensor,
    test_x: Tensor,
    test_y: Tensor,
    k: int,
    costs: Sequence[float] = COSTS,
    num_samples: int = 5,
    seed: int = 0,
) -> LowShotResult:
    """Measure features with SVMs on k positive images of each class.

    As `svm_map`, but trained on seeded samples. One cost serves all classes
    and samples. mmselfsup takes the one that is best on the test set; the
    honest one is best, on average over the samples, for the training images
    that the other samples labeled.

    Args:
        train_x: (N, D).
        train_y: (N, Y) of 1 present, 0 absent, -1 difficult.
        test_x: (M, D).
        test_y: (M, Y).
        k: Positive images of each class; negative ones are (Y - 1) k.
        costs: The candidates.
        num_samples: >= 2.
        seed: Seed of the samples.

    Raises:
        ValueError: A class has too few images.

    Source: Goyal et al. (arXiv:1905.01235), section 4, in the form of
    mmselfsup's svm_voc07, whose samples have no seed.
    """
    return low_shot_map_of_grams(
        *gram_matrices(train_x, test_x),
        train_y,
        test_y,
        k,
        costs,
        num_samples,
        seed,
    )


def low_shot_map_of_grams(
    gram: Tensor,
    test_gram: Tensor,
    train_y: Tensor,
    test_y: Tensor,
    k: int,
    costs: Sequence[float],
    num_samples: int,
    seed: int,
) -> LowShotResult:
    """Do as `low_shot_map`, with the (N, N) and (M, N) of `gram_matrices`."""
    samples = draw_samples(train_y, k, num_samples, seed)
    train_y, test_y = train_y.to(gram.device), test_y.to(gram.device)
    samples = samples.to(gram.device)
    marked = torch.stack(
        [_mark_rows(sample, len(train_y)) for sample in samples]
    )
    all_costs = torch.tensor(costs).to(gram)
    test_map, other_map = torch.zeros(2, num_samples, len(costs)).double()
    for i, sample in enumerate(samples):
        # Y problems with len(costs) SVMs each.
        positive = train_y.gather(0, sample.T).T == PRESENT
        targets, weights = _targets_and_weights(positive, gram.dtype)
        weights = weights[..., None] * all_costs
        targets = targets[..., None].expand_as(weights)
        beta = fit_svms(
            gram[sample[:, :, None], sample[:, None]], targets, weights
        )
        others = marked[[j for j in range(num_samples) if j != i]].any(0)
        for matrix, labels, counted, results in (
            (test_gram, test_y, test_y != DIFFICULT, test_map),
            (gram, train_y, others & ~marked[i], other_map),
        ):
            ap = [
                average_precision(
                    matrix[:, rows] @ of_class,
                    (labels[:, y, None] == PRESENT).expand(-1, len(costs)),
                    counted[:, y, None].expand(-1, len(costs)),
                )
                for y, (rows, of_class) in enumerate(zip(sample, beta))
            ]
            results[i] = torch.stack(ap).mean(0)
    return LowShotResult(test_map, other_map)


def _mark_rows(sample: Tensor, num_rows: int) -> Tensor:
    """Mark the (Y, n) rows of a sample in an (N, Y) bool."""
    marks = torch.zeros(
        len(sample), num_rows, dtype=torch.bool, device=sample.device
    )
    return marks.scatter_(1, sample, True).T


def _targets_and_weights(
    positive: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return 1 or -1, and how much an image counts at cost 1."""
    targets = positive.to(dtype) * 2 - 1
    return targets, 1 + (POSITIVE_WEIGHT - 1) * positive.to(dtype)


def gram_matrices(train_x: Tensor, test_x: Tensor) -> tuple[Tensor, Tensor]:
    """Multiply unit features with a 1 at the end: (N, N), (M, N).

    Raises:
        ValueError: A feature is not finite.
    """
    # Apple's GPUs have no float64.
    device = 'cuda' if get_device() == 'cuda' else 'cpu'
    train, test = [
        x / (x.norm(dim=1, keepdim=True) + 1e-5)  # mmselfsup's constant
        for x in (train_x.to(device).double(), test_x.to(device).double())
    ]
    if not (train.isfinite().all() and test.isfinite().all()):
        raise ValueError('features for SVMs hold numbers that are not finite.')
    return train @ train.T + 1, test @ train.T + 1
