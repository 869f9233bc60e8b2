"""Weighted nearest-neighbour votes, as DINO and mmselfsup count them."""
import torch
import torch.nn.functional as F
from torch import Tensor

# Similarities held at once: 256 MB in float32.
_MAX_SIMILARITIES = 2**26


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

    Neighbours are nearest by cosine; each votes with exp(cosine / T).

    Args:
        bank: (M, D) features, normalised inside.
        bank_labels: (M,) classes, 0 <= label < num_classes.
        queries: (N, D) features, normalised inside.
        k: Neighbours, 1 <= k <= M.
        temperature: T, > 0.
        num_classes: C.

    Returns:
        (N, C) votes; the class with the most is the prediction.

    Raises:
        ValueError: If k does not fit the bank or a label its range.

    Source: DINO (arXiv:2104.14294), section 4.1, after Wu et al. 2018.

    >>> bank, labels = torch.eye(2), torch.tensor([1, 0])
    >>> queries = torch.tensor([[2.0, 0.1]])
    >>> knn_predict(bank, labels, queries, 1, 0.07, num_classes=2).argmax(1)
    tensor([1])
    """
    if not 1 <= k <= len(bank):
        raise ValueError(f'got k={k} neighbours and a bank of {len(bank)} '
                         'features; k must lie between 1 and the bank size.')
    low, high = int(bank_labels.min()), int(bank_labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(f'bank_labels lie between {low} and {high}; expected '
                         f'0 to num_classes - 1 = {num_classes - 1}.')
    bank = F.normalize(bank.float(), dim=1)
    votes = []
    for block in queries.split(max(1, _MAX_SIMILARITIES // len(bank))):
        cosines = F.normalize(block.float(), dim=1) @ bank.T
        nearest, places = cosines.topk(k, dim=1)
        block_votes = cosines.new_zeros(len(block), num_classes)
        block_votes.scatter_add_(1, bank_labels[places],
                                 (nearest / temperature).exp())
        votes.append(block_votes)
    return torch.cat(votes)
