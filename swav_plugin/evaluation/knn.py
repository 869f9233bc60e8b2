"""Weighted nearest-neighbor votes, as DINO and mmselfsup count them.

M bank features, N queries, D their width, Y classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmengine.device import get_device
from mmengine.dist import all_reduce, get_rank, get_world_size
from torch import Tensor

from swav_plugin.compat.moved import moved_names
from swav_plugin.engine.results import Result
from swav_plugin.registry import METRICS

from .feature_store import FeatureProtocol, FeatureSet, Labels, ShardedRows

__getattr__ = moved_names(__name__)

# Queries in one matrix product. A constant, so that products have the same
# shapes, and the same rounding, however many ranks share the queries.
_QUERY_ROWS = 2048
# Bank features in one product on the CPU: 128 MB of similarities.
_BANK_ROWS = 2**14


@torch.no_grad()
def nearest_neighbors(
    bank: Tensor | ShardedRows, queries: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Find the k features of a bank with the largest cosine to each query.

    Neighbors are ordered from near to far; of equally near ones those first
    in the bank come first, and are taken. Works in float32 on the device of
    the queries. The bank may be elsewhere: it is copied there and normalized
    block by block, so memory does not grow with M. On a GPU blocks are as
    large as its free memory allows.

    Args:
        bank: (M, D) of any float type.
        queries: (N, D).
        k: 1 <= k <= M.

    Returns:
        (N, k) float32 cosines and (N, k) int64 indices into the bank.

    Raises:
        ValueError: k does not fit the bank.
    """
    _check_k(k, len(bank))
    blocks = [
        F.normalize(block.float(), dim=1)
        for block in queries.split(_QUERY_ROWS)
    ]
    best = [
        (
            block.new_empty(len(block), 0),
            torch.empty(len(block), 0, dtype=torch.long, device=block.device),
        )
        for block in blocks
    ]
    step = _bank_rows(queries)
    for start in range(0, len(bank), step):
        part = bank[start : start + step].to(queries.device)
        part = F.normalize(part.float(), dim=1).T
        for i, block in enumerate(blocks):
            cosines, indices = _largest(block @ part, k)
            # Lower indices are on the left, and a stable sort keeps them
            # there among equals.
            cosines = torch.cat([best[i][0], cosines], dim=1)
            indices = torch.cat([best[i][1], indices + start], dim=1)
            cosines, order = cosines.sort(dim=1, descending=True, stable=True)
            best[i] = cosines[:, :k], indices.gather(1, order[:, :k])
    if not blocks:
        return queries.new_empty(0, k), queries.new_empty(0, k).long()
    return (
        torch.cat([cosines for cosines, _ in best]),
        torch.cat([indices for _, indices in best]),
    )


def _check_k(k: int, bank_size: int) -> None:
    if not 1 <= k <= bank_size:
        raise ValueError(
            f'got k={k} neighbors and a bank of {bank_size} '
            'features; k must lie between 1 and the bank size.'
        )


def _bank_rows(queries: Tensor) -> int:
    """Return how many features of the bank to take at once."""
    if not queries.is_cuda:
        return _BANK_ROWS
    # For each: itself in up to float32, as it came and normalized, and its
    # cosines with their indices (int64) while the largest are looked for.
    bytes_each = 12 * queries.shape[1] + 16 * _QUERY_ROWS
    free = torch.cuda.mem_get_info(queries.device)[0]
    return max(1024, min(2**20, free // 2 // bytes_each))


def _largest(cosines: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k largest of each row, (N, k), and their columns.

    Among equal values, the leftmost are taken and come first.
    """
    num = cosines.shape[1]
    values, columns = cosines.topk(min(k + 1, num), dim=1)
    # Among equal values topk takes any: where the first one left out equals
    # the last one taken, it may have taken the wrong ones.
    if num > k:
        is_open = values[:, k] == values[:, k - 1]
        if is_open.any():
            values[is_open], columns[is_open] = [
                result[:, : k + 1]
                for result in cosines[is_open].sort(
                    dim=1, descending=True, stable=True
                )
            ]
    columns, order = columns[:, :k].sort(dim=1)
    values = values[:, :k].gather(1, order)
    values, order = values.sort(dim=1, descending=True, stable=True)
    return values, columns.gather(1, order)


def count_votes(
    cosines: Tensor, labels: Tensor, temperature: float, num_classes: int
) -> Tensor:
    """Sum exp(cosine / T) of the neighbors of each class.

    Args:
        cosines: (N, k) of the neighbors.
        labels: (N, k) their classes.
        temperature: T, > 0.
        num_classes: Y.

    Returns:
        (N, Y) float64.
    """
    # In float64 exp(1 / T) is finite down to T = 0.0015.
    weights = (cosines.double() / temperature).exp()
    votes = weights.new_zeros(len(cosines), num_classes)
    return votes.scatter_add_(1, labels, weights)


@torch.no_grad()
def knn_predict(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    k: int,
    temperature: float,
    num_classes: int,
) -> Tensor:
    """Let the k nearest features of a bank vote on the class of each query.

    Neighbors are nearest by cosine; each votes with exp(cosine / T).

    Args:
        bank: (M, D) features, normalized inside.
        bank_labels: (M,) classes, 0 <= label < num_classes.
        queries: (N, D) features, normalized inside.
        k: Neighbors, 1 <= k <= M.
        temperature: T, > 0.
        num_classes: Y.

    Returns:
        (N, Y) float64 votes; the class with the most is the prediction, the
        first one if there are several.

    Raises:
        ValueError: k does not fit the bank, or a label its range.

    Source: DINO (arXiv:2104.14294), section 4.1, after Wu et al. 2018.

    >>> bank, labels = torch.eye(2), torch.tensor([1, 0])
    >>> queries = torch.tensor([[2.0, 0.1]])
    >>> knn_predict(bank, labels, queries, 1, 0.07, num_classes=2).argmax(1)
    tensor([1])
    """
    _check_k(k, len(bank))
    low, high = int(bank_labels.min()), int(bank_labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f'bank_labels are between {low} and {high}; expected '
            f'0 to num_classes - 1 = {num_classes - 1}.'
        )
    cosines, indices = nearest_neighbors(bank, queries, k)
    return count_votes(cosines, bank_labels[indices], temperature, num_classes)


def count_hits(votes: Tensor, labels: Tensor, top: int) -> int:
    """Count the queries whose class is among the `top` with most votes.

    If classes have equal votes, the lower number comes first. A class without
    a vote is not predicted, even if fewer than `top` classes have one.

    Args:
        votes: (N, Y).
        labels: (N,).
        top: >= 1.

    >>> count_hits(torch.tensor([[2., 0., 2., 1.]]), torch.tensor([2]), top=1)
    0
    """
    own = votes.gather(1, labels[:, None])
    lower = torch.arange(votes.shape[1], device=votes.device) < labels[:, None]
    ahead = (votes > own) | ((votes == own) & lower)
    return int(((ahead.sum(1) < top) & (own[:, 0] > 0)).sum())


@dataclass(frozen=True)
class KNNProtocol(FeatureProtocol):
    """Protocol of an accuracy of nearest neighbors.

    Args:
        k: Neighbors.
        temperature: T of the weights exp(cosine / T).
        top: 1 or 5: how many classes may be predicted.
    """

    k: int
    temperature: float
    top: int

    def __str__(self) -> str:
        return (
            f'{self.feature}, k={self.k}, T={self.temperature:g}, cosine, '
            f'votes exp(cos/T), bank of {self.num_train_images}, '
            f'{self.num_test_images} test images{self.unreadable}'
        )


@METRICS.register_module()
class KNN:
    """Top-1 and top-5 accuracy of weighted nearest-neighbor votes.

    All k come from one search for neighbors. Ranks share the queries; hits
    are counted, so any number of ranks gives the same accuracy.

    Args:
        k: Numbers of neighbors.
        temperature: T of the weights exp(cosine / T), > 0.
        features: Which of the loop's features; None for all.

    Source: DINO (arXiv:2104.14294); k and T are those of mmselfsup's benchmark
    page.
    """

    def __init__(
        self,
        k: Sequence[int] = (10, 20, 100, 200),
        temperature: float = 0.07,
        features: Sequence[str] | None = None,
    ) -> None:
        if temperature < 0.0015:
            raise ValueError(
                f'KNN got temperature={temperature}; exp(1 / T) overflows '
                'below 0.0015. DINO and mmselfsup take 0.07.'
            )
        self.k = sorted(k)
        self.temperature = temperature
        self.features = features

    def check(self, bank: Labels, test: Labels) -> None:
        """Refuse sets that can't be evaluated, before features are made.

        Raises:
            ValueError: k exceeds the bank, or labels are not classes.
        """
        _check_k(self.k[0], len(bank.values))
        _check_k(self.k[-1], len(bank.values))
        for labels in (bank, test):
            labels.check_single()
        if test.num_classes > bank.num_classes:
            raise ValueError(
                f'{test.name} has labels up to {test.num_classes - 1}, but '
                f'{bank.name} only up to {bank.num_classes - 1}; both sets '
                'need the same classes.'
            )

    def evaluate(self, bank: FeatureSet, test: FeatureSet) -> list[Result]:
        """Return accuracies in %, for each feature and k."""
        results = []
        for feature in self.features or test.features:
            hits = self._count(bank, test, feature)
            for k, counts in zip(self.k, hits.tolist()):
                for top, count in zip((1, 5), counts):
                    protocol = KNNProtocol.of(
                        feature,
                        bank,
                        test,
                        k=k,
                        temperature=self.temperature,
                        top=top,
                    )
                    accuracy = 100 * count / protocol.num_test_images
                    name = f'{feature}/knn{k}_top{top}'
                    results.append(Result(name, accuracy, protocol))
        return results

    def _count(self, bank: FeatureSet, test: FeatureSet, name: str) -> Tensor:
        """Count hits over all ranks, (number of k, 2), top-1 and top-5."""
        device = get_device()
        if device == 'mps':
            device = 'cpu'  # Apple's GPUs have no float64
        num_classes = bank.labels.num_classes
        bank_labels = bank.labels.values.to(device)
        hits = torch.zeros(len(self.k), 2, dtype=torch.long, device=device)
        own = [*_own_rows(len(test.labels.values))]
        if own:
            queries = torch.cat([test.features[name][rows] for rows in own])
            cosines, indices = nearest_neighbors(
                bank.features[name], queries.to(device), self.k[-1]
            )
            labels = torch.cat([test.labels.values[rows] for rows in own])
            parts = zip(
                cosines.split(_QUERY_ROWS),
                indices.split(_QUERY_ROWS),
                labels.to(device).split(_QUERY_ROWS),
            )
            for near, nearest, true in parts:
                for counts, k in zip(hits, self.k):
                    votes = count_votes(
                        near[:, :k],
                        bank_labels[nearest[:, :k]],
                        self.temperature,
                        num_classes,
                    )
                    counts[0] += count_hits(votes, true, top=1)
                    counts[1] += count_hits(votes, true, top=5)
        all_reduce(hits)
        return hits


def _own_rows(num_queries: int) -> Iterator[slice]:
    """Yield this rank's blocks of queries."""
    step = _QUERY_ROWS * get_world_size()
    for start in range(_QUERY_ROWS * get_rank(), num_queries, step):
        yield slice(start, min(start + _QUERY_ROWS, num_queries))
