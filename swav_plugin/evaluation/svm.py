"""Linear SVMs on VOC07: mean average precision, with all labels or few.

N training images, M test images, D width of a feature, C classes, P SVMs that
are trained side by side.
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.logging import print_log
from torch import Tensor

from swav_plugin.registry import METRICS

from .feature_store import FeatureSet, Labels, Result

# The page's, in its order: of equally good costs the first is chosen.
COSTS = (1.0, 10.0, 100.0, *(0.5**i for i in range(4, 20)))
POSITIVE_WEIGHT = 2.0
PRESENT, ABSENT, DIFFICULT = 1, 0, -1
# Directions of most variance that the preconditioner of the solver knows.
_RANK = 100


def fit_svms(
    gram: Tensor,
    targets: Tensor,
    weights: Tensor,
    start: Tensor | None = None,
    tolerance: float = 1e-5,
    max_steps: int = 100,
) -> Tensor:
    """Train P linear SVMs on the same images, side by side.

    Each minimises |w|^2 / 2 + sum_i weight_i max(0, 1 - target_i <w, x_i>)^2
    by Newton's method with conjugate gradients over w, in coordinates in
    which the images are the rows of the Gram matrix's Cholesky factor: all
    work is products of that factor with P columns. A constant 1 at the end of
    each x makes the last of w a bias, which is penalised as the rest is
    (LIBLINEAR's `intercept_scaling=1`).

    Args:
        gram: (..., N, N) <x_i, x_j>, float64; it may be singular.
        targets: (..., N, P) of 1 and -1.
        weights: (..., N, P), >= 0; 0 leaves an image out.
        start: (..., N, P) beta to start from.
        tolerance: Done when the duality gap shows w to lie within this share
            of its length from the best one.
        max_steps: Newton steps, >= 1; there are rarely more than 10.

    Returns:
        (..., N, P) beta, with w = sum_i beta_i x_i.

    Raises:
        RuntimeError: If `max_steps` are not enough.

    Source: Keerthi and DeCoste, A modified finite Newton method for fast
    solution of large scale linear SVMs, JMLR 6 (2005); Chapelle, Training a
    support vector machine in the primal, Neural Computation 19 (2007).
    """
    images = _factor(gram)
    if start is None:
        w = torch.zeros_like(weights)
    else:
        w = images.mT @ start
    scores = images @ w
    solved = torch.empty_like(scores)
    basis, spectrum = _principal_directions(images)
    columns = torch.arange(weights.shape[-1], device=weights.device)
    for _ in range(max_steps):
        margins = (1 - targets * scores).clamp(min=0)
        # beta is dual feasible; its gap to w is half the squared distance of
        # their w, so neither is farther than that distance from the best one.
        beta = 2 * weights * targets * margins
        residual = images.mT @ beta - w
        distance, length = _dot(residual, residual), _dot(w, w)
        is_done = distance <= tolerance**2 * length
        solved[..., columns] = beta
        if is_done.all():
            return solved
        # Go on with the others only. Of a column that is done in part of the
        # batch that part rests: what is left of it is no more than rounding.
        residual = residual * ~is_done
        is_open = ~is_done.flatten(0, -2).all(0)
        columns = columns[is_open]
        w, scores, targets, weights, margins, residual = [
            x[..., is_open]
            for x in (w, scores, targets, weights, margins, residual)
        ]
        step, step_scores = _newton_step(
            images, basis, spectrum, 2 * weights * (margins > 0), residual
        )
        size = _line_search(w, scores, step, step_scores, targets, weights)
        w = w + size * step
        scores = scores + size * step_scores
    raise RuntimeError(
        f'{len(columns)} of {solved.shape[-1]} SVMs did not converge in '
        f'{max_steps} Newton steps: w may be off by '
        f'{float((distance / length).max().sqrt()):.1e} of its length.'
    )


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner products of columns, (..., 1, P)."""
    return (a * b).sum(-2, keepdim=True)


def _factor(gram: Tensor) -> Tensor:
    """Rows (..., N, N) with the inner products of a Gram matrix.

    Its diagonal is raised by 1e-12 of the largest eigenvalue at most, so that
    it may be singular: w changes less than the tolerance.
    """
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    raised = 1e-12 * diagonal.sum(-1, keepdim=True).expand_as(diagonal)
    return torch.linalg.cholesky(gram + raised.diag_embed())


def _principal_directions(images: Tensor) -> tuple[Tensor, Tensor]:
    """Directions of w in which images (..., N, N) vary most, and how much.

    By subspace iteration from a fixed start, (..., N, r) and (..., r, 1).
    They only speed things up.
    """
    rank = min(_RANK, images.shape[-1])
    seeded = torch.Generator().manual_seed(0)
    noise = torch.randn(images.shape[-1], rank, generator=seeded)
    basis = noise.to(images).expand(*images.shape[:-1], rank)
    for _ in range(3):
        basis = torch.linalg.qr(images.mT @ (images @ basis)).Q
    projected = images @ basis
    spectrum, rotation = torch.linalg.eigh(projected.mT @ projected)
    return basis @ rotation, spectrum.clamp(min=0)[..., None]


def _newton_step(
    images: Tensor,
    basis: Tensor,
    spectrum: Tensor,
    curvature: Tensor,
    residual: Tensor,
) -> tuple[Tensor, Tensor]:
    """Solve (I + images^T curvature images) step = residual, to a tenth.

    By conjugate gradients. Returns the step and images @ step.
    """
    # Preconditioned by the same with one curvature for all images, inverted
    # where the spectrum is known, and with its least known value elsewhere.
    mean = curvature.mean(-2, keepdim=True)
    known = 1 / (1 + mean * spectrum)
    other = known[..., :1, :]

    def precondition(x: Tensor) -> Tensor:
        return other * x + basis @ ((known - other) * (basis.mT @ x))

    step = torch.zeros_like(residual)
    step_scores = torch.zeros_like(curvature)
    direction = precondition(residual)
    product = first = _dot(residual, direction)
    is_open = product > 0
    for _ in range(images.shape[-1]):
        scores = images @ direction
        ahead = direction + images.mT @ (curvature * scores)
        # A solved column rests.
        length = torch.where(is_open, product / _dot(direction, ahead), 0.0)
        step = step + length * direction
        step_scores = step_scores + length * scores
        residual = residual - length * ahead
        z = precondition(residual)
        new = _dot(residual, z)
        is_open = is_open & (new > 0.01 * first)
        if not is_open.any():
            break
        direction = torch.where(is_open, z + new / product * direction, 0.0)
        product = new
    return step, step_scores


def _line_search(
    w: Tensor,
    scores: Tensor,
    step: Tensor,
    step_scores: Tensor,
    targets: Tensor,
    weights: Tensor,
) -> Tensor:
    """Step size that minimises the objective, (..., 1, P).

    Newton's method on its derivative, which grows with the size; half-way
    between known bounds where it would leave them.
    """
    slope, bend = _dot(w, step), _dot(step, step)
    size = torch.ones_like(slope)
    low, high = torch.zeros_like(size), torch.full_like(size, 4)
    for _ in range(12):
        margins = (1 - targets * (scores + size * step_scores)).clamp(min=0)
        first = (
            slope
            + size * bend
            - 2 * _dot(weights * targets * margins, step_scores)
        )
        second = bend + 2 * _dot(weights * (margins > 0), step_scores**2)
        low = torch.where(first < 0, size, low)
        high = torch.where(first > 0, size, high)
        size = size - first / second.clamp(min=1e-30)
        size = torch.where(
            (size > low) & (size < high), size, (low + high) / 2
        )
    return size


def average_precision(
    scores: Tensor, positive: Tensor, counted: Tensor, interpolate: bool = True
) -> Tensor:
    """Area under precision over recall, for each of P rankings.

    Images with equal scores enter the ranking together.

    Args:
        scores: (N, P), higher is more likely positive.
        positive: (N, P) bool.
        counted: (N, P) bool; other images are as if they were not there.
        interpolate: At each recall take the best precision at that recall or
            above, as VOC since 2010 and the reference do for the test set
            (all points, not 11). Without it, this is scikit-learn's
            `average_precision_score`, which the reference uses to choose
            costs. It is never larger.

    Returns:
        (P,) in [0, 1]; NaN without positive images.

    >>> scores = torch.tensor([[4.], [3.], [2.], [1.]])
    >>> positive = torch.tensor([[False], [True], [True], [False]])
    >>> everything = torch.ones(4, 1, dtype=torch.bool)
    >>> average_precision(scores, positive, everything)  # 2/3 at all recalls
    tensor([0.6667], dtype=torch.float64)
    >>> average_precision(scores, positive, everything, interpolate=False)
    tensor([0.5833], dtype=torch.float64)
    """
    scores, order = scores.sort(dim=0, descending=True)
    hits = (positive & counted).gather(0, order).double()
    found = hits.cumsum(0)
    precision = found / counted.gather(0, order).cumsum(0).clamp(min=1)
    # A precision exists only after all images with a score have entered.
    is_last = torch.ones_like(scores, dtype=torch.bool)
    is_last[:-1] = scores[:-1] != scores[1:]
    if interpolate:
        precision = torch.where(is_last, precision, 0.0)
        precision = precision.flip(0).cummax(0).values.flip(0)
    else:
        rows = torch.arange(len(scores), device=scores.device)[:, None]
        rows = torch.where(is_last, rows, len(scores))
        precision = precision.gather(0, rows.flip(0).cummin(0).values.flip(0))
    return (hits * precision).sum(0) / found[-1]


def stratified_folds(positive: Tensor, num_folds: int = 3) -> Tensor:
    """Fold of each image, (N,), so that folds have equal shares of both kinds.

    Images keep their order; scikit-learn's `StratifiedKFold` without shuffle.

    >>> stratified_folds(torch.tensor([True, False, False, True, False]), 2)
    tensor([0, 0, 0, 1, 1])
    """
    # Kinds are dealt to the folds in turn, sorted, the first image's first.
    kinds = (positive != positive[0]).long()
    dealt = torch.arange(len(kinds), device=kinds.device) % num_folds
    folds = torch.empty_like(kinds)
    for kind in (0, 1):
        of_kind = kinds.sort().values == kind
        folds[kinds == kind] = dealt[of_kind].sort().values
    return folds


class FullResult(NamedTuple):
    """SVMs on all training images.

    Args:
        cv_ap: (C, number of costs) mean AP over folds of the training set.
        test_ap: (C, number of costs) AP on the test set.
        chosen: (C,) place of the cost with the best `cv_ap` of each class.
    """

    cv_ap: Tensor
    test_ap: Tensor
    chosen: Tensor

    @property
    def map_cv(self) -> float:
        """Test mAP in % with costs chosen by cross-validation: the page's."""
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
    """Measure features by linear SVMs, one for each class: VOC07's protocol.

    Features are scaled to unit length. For each class a cost is chosen by
    average precision over stratified folds of the training set, and the SVM
    trained again on all of it. Squared hinge loss, positive images count
    twice. Difficult images are negative in training and left out of the test,
    as in the reference.

    Args:
        train_x: (N, D). An (N, N) matrix of float64 has to fit in memory.
        train_y: (N, C) of 1 present, 0 absent, -1 difficult.
        test_x: (M, D).
        test_y: (M, C).
        costs: Of equally good ones the first is chosen.
        num_folds: Each class needs at least as many positive images.

    Raises:
        ValueError: If a class has too few images.

    Source: Goyal et al. (arXiv:1905.01235), section 4, in the form of
    mmselfsup's svm_voc07.
    """
    num_present = (train_y == PRESENT).sum(0)
    _check_counts(num_present, num_folds, f'{num_folds} folds need')
    gram, test_gram = _gram_matrices(train_x, test_x)
    train_y, test_y = train_y.to(gram.device), test_y.to(gram.device)
    # (N, folds + 1, C): one SVM without each fold, the last with all images.
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

        The page's: its cost is chosen on the test set itself.
        """
        return 100 * self.test_map[:, int(self.test_map.mean(0).argmax())]

    @property
    def maps_by_cv(self) -> Tensor:
        """Test mAP in % of each sample, at the cost best for the others."""
        return 100 * self.test_map[:, int(self.other_map.mean(0).argmax())]


def draw_samples(
    train_y: Tensor, k: int, num_samples: int, seed: int
) -> Tensor:
    """Draw k positive and (C - 1) k negative images for each class.

    Args:
        train_y: (N, C) of 1 present, 0 absent, -1 difficult, never drawn.
        k: Positive images of each class.
        num_samples: How many independent samples.
        seed: The same samples whenever seed, k and labels are the same.

    Returns:
        (num_samples, C, C k) places, positive ones first.

    Raises:
        ValueError: If a class has too few images.
    """
    num_negative = (train_y.shape[1] - 1) * k
    _check_counts((train_y == PRESENT).sum(0), k, f'k={k} needs')
    _check_counts(
        (train_y == ABSENT).sum(0), num_negative, f'k={k} needs', 'negative'
    )
    samples = []
    for sample in range(num_samples):
        rng = np.random.default_rng([seed, k, sample])
        for column in train_y.T:
            for mark, count in ((PRESENT, k), (ABSENT, num_negative)):
                places = np.flatnonzero(column.cpu().numpy() == mark)
                samples.append(rng.choice(places, count, replace=False))
    drawn = torch.from_numpy(np.concatenate(samples))
    return drawn.view(num_samples, train_y.shape[1], k + num_negative)


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
    """Measure features by SVMs on k positive images of each class.

    As `svm_map`, but trained on seeded samples. One cost serves all classes
    and samples. The page takes the one that is best on the test set; the
    honest one is best, on average over the samples, for the training images
    that the other samples labelled.

    Args:
        train_x: (N, D).
        train_y: (N, C) of 1 present, 0 absent, -1 difficult.
        test_x: (M, D).
        test_y: (M, C).
        k: Positive images of each class; negative ones are (C - 1) k.
        costs: To choose from.
        num_samples: >= 2.
        seed: Of the samples.

    Raises:
        ValueError: If a class has too few images.

    Source: Goyal et al. (arXiv:1905.01235), section 4, in the form of
    mmselfsup's svm_voc07, whose samples have no seed.
    """
    return _low_shot(
        *_gram_matrices(train_x, test_x),
        train_y,
        test_y,
        k,
        costs,
        num_samples,
        seed,
    )


def _low_shot(
    gram: Tensor,
    test_gram: Tensor,
    train_y: Tensor,
    test_y: Tensor,
    k: int,
    costs: Sequence[float],
    num_samples: int,
    seed: int,
) -> LowShotResult:
    """As `low_shot_map`, with (N, N) and (M, N) inner products."""
    samples = draw_samples(train_y, k, num_samples, seed)
    train_y, test_y = train_y.to(gram.device), test_y.to(gram.device)
    samples = samples.to(gram.device)
    marked = torch.stack([_marks(sample, len(train_y)) for sample in samples])
    all_costs = torch.tensor(costs).to(gram)
    test_map, other_map = torch.zeros(2, num_samples, len(costs)).double()
    for i, sample in enumerate(samples):
        # C problems with len(costs) SVMs each.
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
                    (labels[:, c, None] == PRESENT).expand(-1, len(costs)),
                    counted[:, c, None].expand(-1, len(costs)),
                )
                for c, (rows, of_class) in enumerate(zip(sample, beta))
            ]
            results[i] = torch.stack(ap).mean(0)
    return LowShotResult(test_map, other_map)


def _marks(sample: Tensor, num_rows: int) -> Tensor:
    """(C, n) places -> (N, C) bool, whether an image is in the sample."""
    marks = torch.zeros(
        len(sample), num_rows, dtype=torch.bool, device=sample.device
    )
    return marks.scatter_(1, sample, True).T


def _targets_and_weights(
    positive: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """1 or -1, and how much an image counts at cost 1."""
    targets = positive.to(dtype) * 2 - 1
    return targets, 1 + (POSITIVE_WEIGHT - 1) * positive.to(dtype)


def _gram_matrices(train_x: Tensor, test_x: Tensor) -> tuple[Tensor, Tensor]:
    """Inner products of unit features with a 1 at the end: (N, N), (M, N)."""
    # Apple's GPUs have no float64.
    device = 'cuda' if get_device() == 'cuda' else 'cpu'
    train, test = [
        x / (x.norm(dim=1, keepdim=True) + 1e-5)  # the reference's constant
        for x in (train_x.to(device).double(), test_x.to(device).double())
    ]
    if not (train.isfinite().all() and test.isfinite().all()):
        raise ValueError('features for SVMs hold numbers that are not finite.')
    return train @ train.T + 1, test @ train.T + 1


def _check_counts(
    counts: Tensor, needed: int, why: str, kind: str = 'positive'
) -> None:
    """Refuse classes with fewer images than needed."""
    fewest = int(counts.min())
    if fewest < needed:
        raise ValueError(
            f'{why} {needed} {kind} images of each class but class '
            f'{int(counts.argmin())} has {fewest}; leave the class or k out.'
        )


@METRICS.register_module()
class VOC07SVM:
    """MAP of linear SVMs with all labels of VOC07, and with few.

    Every feature is measured with all labels; low-shot SVMs only use the
    feature that is best in cross-validation. Ranks share the work.

    Args:
        costs: Of the SVMs.
        low_shot_k: Positive images of each class; empty for none.
        num_samples: Low-shot samples for each k, >= 2.
        seed: Of the samples.
        features: Which of the loop's features; None for all.

    Source: see `svm_map` and `low_shot_map`.
    """

    def __init__(
        self,
        costs: Sequence[float] = COSTS,
        low_shot_k: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 96),
        num_samples: int = 5,
        seed: int = 0,
        features: Sequence[str] | None = None,
    ) -> None:
        if num_samples < 2:
            raise ValueError(
                f'VOC07SVM got num_samples={num_samples}; it needs at least '
                '2, since the cost for one is chosen on the others.'
            )
        self.costs = costs
        self.low_shot_k = low_shot_k
        self.num_samples = num_samples
        self.seed = seed
        self.features = features

    def check(self, bank: Labels, test: Labels) -> None:
        """Refuse sets that can not be evaluated, before features are made.

        Raises:
            ValueError: If labels are no marks for each class, or a class has
                too few images.
        """
        for labels in (bank, test):
            labels.check_several()
        if bank.num_classes != test.num_classes:
            raise ValueError(
                f'{bank.name} has {bank.num_classes} classes and {test.name} '
                f'{test.num_classes}; both need the same.'
            )
        _check_counts((bank.values == PRESENT).sum(0), 3, '3 folds need')
        _check_counts((test.values == PRESENT).sum(0), 1, 'the test needs')
        for k in self.low_shot_k:
            draw_samples(bank.values, k, 1, self.seed)

    def evaluate(self, bank: FeatureSet, test: FeatureSet) -> list[Result]:
        """MAP in %, for each feature and then for each k."""

        def full_map(name: str) -> FullResult:
            return svm_map(
                bank.features[name][:],
                bank.labels.values,
                test.features[name][:],
                test.labels.values,
                self.costs,
            )

        names = list(self.features or test.features)
        size = (
            f'{len(self.costs)} costs, all-point AP, '
            f'{len(bank.labels.values)} training and '
            f'{len(test.labels.values)} test images'
        )
        full = dict(zip(names, _shared_by_ranks(full_map, names)))
        results = [
            Result(
                f'{name}/svm_map',
                result.map_cv,
                f'{name}, SVM on all labels, cost of each class by 3-fold '
                f'cross-validation as on the page, {size}',
            )
            for name, result in full.items()
        ]
        best = max(names, key=lambda name: full[name].map_of_folds)
        if len(names) > 1:
            by_test = max(names, key=lambda name: full[name].map_cv)
            for suffix, name, how in (
                ('test', by_test, 'chosen on the test set as on the page'),
                ('cv', best, 'chosen by cross-validation'),
            ):
                results.append(
                    Result(
                        f'svm_map_best_by_{suffix}',
                        full[name].map_cv,
                        f'{name}, the best feature {how}; else as above',
                    )
                )

        @functools.cache
        def matrices() -> tuple[Tensor, Tensor]:
            return _gram_matrices(
                bank.features[best][:], test.features[best][:]
            )

        low_shot = _shared_by_ranks(
            lambda k: _low_shot(
                *matrices(),
                bank.labels.values,
                test.labels.values,
                k,
                self.costs,
                self.num_samples,
                self.seed,
            ),
            self.low_shot_k,
        )
        for k, result in zip(self.low_shot_k, low_shot):
            for suffix, maps, how in (
                (
                    'test',
                    result.maps_by_test,
                    'cost chosen on the test set as on the page',
                ),
                (
                    'cv',
                    result.maps_by_cv,
                    'cost chosen on training images of the other samples',
                ),
            ):
                results.append(
                    Result(
                        f'{best}/svm_k{k}_map_by_{suffix}',
                        float(maps.mean()),
                        f'{best}, SVM on {k} positive images of each '
                        f'class, mean of {self.num_samples} samples '
                        f'(seed {self.seed}; {maps.min():.2f} to '
                        f'{maps.max():.2f}, std {maps.std():.2f}), {how}, '
                        f'{size}',
                    )
                )
        return results


def _shared_by_ranks(
    work: Callable[[Any], Any], items: Sequence[Any]
) -> list[Any]:
    """Results of all items, in order; each is computed by one rank."""
    own = []
    for i in range(get_rank(), len(items), get_world_size()):
        begin = time.monotonic()
        own.append((i, work(items[i])))
        print_log(
            f'SVMs for {items[i]}: {time.monotonic() - begin:.0f} s', 'current'
        )
    everything = [pair for part in all_gather_object(own) for pair in part]
    return [result for _, result in sorted(everything, key=lambda p: p[0])]
