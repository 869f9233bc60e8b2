"""Find the nearest images, and near-duplicates, by the cosine of features.

Letters for shapes: N images, Q queries, D the width of features.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from swav_plugin.evaluation.knn import nearest_neighbors

_BLOCK_ROWS = 2048  # 16 MB of similarities at once
# What float32 may be off by when it sums 2048 products that add up to 1.
_ROUNDING = 1e-5


def check_limits(k: int = 1, threshold: float | None = None) -> None:
    """Check what to look for.

    Args:
        k: Neighbors of each query.
        threshold: Least cosine of near-duplicates; None not to look for any.

    Raises:
        ValueError: One of them is out of range.
    """
    if k < 1:
        raise ValueError(f'got k={k} neighbors; ask for 1 or more.')
    if threshold is not None and not 0 < threshold <= 1:
        raise ValueError(
            f'got {threshold} as the least similarity of near-duplicates; it '
            'is a cosine: give a number above 0 and up to 1, such as 0.95.'
        )


def nearest_others(
    bank: Tensor, queries: Tensor, own: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Find the k nearest images to each query, but not itself.

    Exact, with the memory of `nearest_neighbors`. Of equally near images
    those first in the bank come first.

    Args:
        bank: (N, D) features.
        queries: (Q, D) features; the work is done on their device.
        own: (Q,) int64 index of each query in the bank; -1 if it is not
            there.
        k: At least 1; if there are fewer others, all are returned.

    Returns:
        (Q, k) float32 cosines and (Q, k) int64 indices into the bank.

    Raises:
        ValueError: k is less than 1.
    """
    check_limits(k)
    own = own.to(queries.device)
    if not bool((own >= 0).any()):
        return nearest_neighbors(bank, queries, min(k, len(bank)))
    num = min(k + 1, len(bank))
    cosines, indices = nearest_neighbors(bank, queries, num)
    is_own = indices == own[:, None]
    # A query that is not among its nearest gives up the last of them.
    is_own[:, -1] |= ~is_own.any(1)
    shape = len(queries), num - 1
    return cosines[~is_own].view(shape), indices[~is_own].view(shape)


def near_duplicates(
    features: Tensor, threshold: float, device: torch.device | str = 'cpu'
) -> tuple[list[list[int]], Tensor]:
    """Group images whose features have at least a given cosine.

    Two images are in one group if a chain of such pairs connects them.
    Compares all pairs, block by block: memory does not grow with their
    number.

    Args:
        features: (N, D).
        threshold: Least cosine of a pair, in (0, 1]; 1 finds copies, whose
            cosine is 1 up to rounding.
        device: Where to compute the cosines.

    Returns:
        Indices of the images of each group, in order; the largest group
        comes first. And the cosine of each image with the nearest other
        one: (N,) float32, -1 for a single image.

    Raises:
        ValueError: The threshold is out of range.

    >>> near_duplicates(torch.tensor([[1., 0], [0, 1], [1, .01]]), 0.99)[0]
    [[0, 2]]
    """
    check_limits(threshold=threshold)
    first = torch.arange(len(features))
    nearest = torch.full((len(features),), -1.0)
    for rows, columns, cosines in _pair_blocks(features, device):
        for own, values in (
            (rows, cosines.amax(1)),
            (columns, cosines.amax(0)),
        ):
            nearest[own] = nearest[own].maximum(values.cpu())
        near = (cosines >= threshold - _ROUNDING).nonzero().cpu()
        first = _connect(
            first, near[:, 0] + rows.start, near[:, 1] + columns.start
        )
    counts = torch.bincount(first)
    by_size = counts.argsort(descending=True, stable=True)
    members = first.argsort(stable=True).split(counts[counts > 0].tolist())
    by_first = {int(group[0]): group.tolist() for group in members}
    groups = [by_first[i] for i in by_size.tolist() if counts[i] > 1]
    return groups, nearest


def _pair_blocks(
    features: Tensor, device: torch.device | str
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield rows, columns and their cosines, such that each pair is in one.

    The cosine of an image with itself is -1 there.
    """
    starts = range(0, len(features), _BLOCK_ROWS)
    for start in starts:
        rows = slice(start, start + _BLOCK_ROWS)
        queries = F.normalize(features[rows].to(device).float(), dim=1)
        for other in starts[start // _BLOCK_ROWS :]:
            columns = slice(other, other + _BLOCK_ROWS)
            others = F.normalize(features[columns].to(device).float(), dim=1)
            cosines = queries @ others.T
            if other == start:
                cosines.fill_diagonal_(-1)
            yield rows, columns, cosines


def _connect(first: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Join the groups of pairs of images.

    Args:
        first: (N,) the first image of the group of each.
        one: (pairs,) an image.
        other: (pairs,) one that belongs to the same group.

    Returns:
        (N,) the first image of the group of each, afterwards.
    """
    while True:
        one, other = first[one], first[other]
        is_apart = one != other
        if not is_apart.any():
            return first
        one, other = one[is_apart], other[is_apart]
        first = first.scatter_reduce(
            0, one.maximum(other), one.minimum(other), 'amin'
        )
        # A chain of groups was joined link by link: go to its first.
        while not torch.equal(first, first[first]):
            first = first[first]
