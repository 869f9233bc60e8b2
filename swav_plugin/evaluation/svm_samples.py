"""The images that an SVM of VOC07 is trained on: folds and low-shot samples.

N training images, Y classes.
"""

import numpy as np
import torch
from torch import Tensor

PRESENT, ABSENT, DIFFICULT = 1, 0, -1


def stratified_folds(positive: Tensor, num_folds: int = 3) -> Tensor:
    """Deal images to folds with equal shares of positive ones.

    Images keep their order; scikit-learn's `StratifiedKFold` without shuffle.

    Args:
        positive: (N,) bool.
        num_folds: >= 2.

    Returns:
        (N,) the fold of each image.

    >>> stratified_folds(torch.tensor([True, False, False, True, False]), 2)
    tensor([0, 0, 0, 1, 1])
    """
    # Both kinds are dealt to the folds in turn, sorted, that of the first
    # image first.
    kinds = (positive != positive[0]).long()
    dealt = torch.arange(len(kinds), device=kinds.device) % num_folds
    folds = torch.empty_like(kinds)
    for kind in (0, 1):
        of_kind = kinds.sort().values == kind
        folds[kinds == kind] = dealt[of_kind].sort().values
    return folds


def draw_samples(
    train_y: Tensor, k: int, num_samples: int, seed: int
) -> Tensor:
    """Draw k positive and (Y - 1) k negative images for each class.

    Args:
        train_y: (N, Y) of 1 present, 0 absent, -1 difficult, never drawn.
        k: Positive images of each class.
        num_samples: How many independent samples.
        seed: The same samples whenever seed, k and labels are the same.

    Returns:
        (num_samples, Y, Y k) row numbers, positive ones first.

    Raises:
        ValueError: A class has too few images.
    """
    num_negative = (train_y.shape[1] - 1) * k
    check_counts((train_y == PRESENT).sum(0), k, f'k={k} needs')
    check_counts(
        (train_y == ABSENT).sum(0), num_negative, f'k={k} needs', 'negative'
    )
    samples = []
    for sample in range(num_samples):
        rng = np.random.default_rng([seed, k, sample])
        for column in train_y.T:
            for mark, count in ((PRESENT, k), (ABSENT, num_negative)):
                rows = np.flatnonzero(column.cpu().numpy() == mark)
                samples.append(rng.choice(rows, count, replace=False))
    drawn = torch.from_numpy(np.concatenate(samples))
    return drawn.view(num_samples, train_y.shape[1], k + num_negative)


def largest_k(train_y: Tensor) -> int:
    """Return the largest k for which `draw_samples` has enough images.

    Args:
        train_y: (N, Y) as there.

    >>> largest_k(torch.tensor([[1, 0], [1, 0], [0, 1], [0, 1], [0, 1]]))
    2
    """
    num_others = train_y.shape[1] - 1
    fewest = int((train_y == PRESENT).sum(0).min())
    if not num_others:
        return fewest
    return min(fewest, int((train_y == ABSENT).sum(0).min()) // num_others)


def check_counts(
    counts: Tensor, needed: int, why: str, kind: str = 'positive'
) -> None:
    """Refuse classes with fewer images than needed.

    Args:
        counts: (Y,) images of each class.
        needed: The smallest number allowed.
        why: Start of the message, such as '3 folds need'.
        kind: Kind of the images, for the message.

    Raises:
        ValueError: A class has too few images.
    """
    fewest = int(counts.min())
    if fewest < needed:
        raise ValueError(
            f'{why} {needed} {kind} images of each class but class '
            f'{int(counts.argmin())} has {fewest}; leave the class or k out.'
        )
