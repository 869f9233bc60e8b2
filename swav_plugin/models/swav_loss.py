"""SwAV's maths: codes by Sinkhorn-Knopp and the swapped prediction loss.

Pure functions, no state. Letters for shapes: V views (the first A get codes),
B images per rank, K prototypes, N any rows.
"""

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from torch import Tensor


@torch.no_grad()
def sinkhorn(
    scores: Tensor, epsilon: float = 0.05, num_iters: int = 3
) -> Tensor:
    r"""Assign samples to prototypes so that all prototypes get equal mass.

    .. math:: Q = \mathrm{Diag}(u) \exp(\mathrm{scores} / \epsilon)
              \mathrm{Diag}(v)

    with one weight u for each sample and one weight v for each prototype.
    Samples may be spread over ranks; each rank passes its own rows and gets
    their codes back. Safe for any finite score.

    Args:
        scores: (N, K) similarities of this rank's N samples to K prototypes,
            any float dtype. N may differ between ranks.
        epsilon: Entropy weight, > 0. Smaller gives harder codes.
        num_iters: Sweeps, >= 1. A sweep equalizes prototypes, then samples.

    Returns:
        (N, K) codes, each row summing to 1; float32, or float64 if the scores
        are.

    Raises:
        ValueError: `epsilon` or `num_iters` is out of range.

    Source: SwAV (arXiv:2006.09882), eq. 3 to 5 and Appendix A.

    >>> sinkhorn(torch.zeros(2, 4))[0]
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    check_sinkhorn(epsilon, num_iters)
    scores = at_least_float32(scores)
    limits = torch.finfo(scores.dtype)
    # Shift each prototype's largest exponent to 0, then each sample's, so that
    # no sum below overflows or vanishes. The first sweep cancels the shifts of
    # the prototypes; those of the samples become its starting weights.
    largest = scores.amax(0)
    all_reduce(largest, 'max')
    # Scores far apart overflow to -inf; such a row minus its maximum is NaN.
    exponents = (scores - largest).div_(epsilon).clamp_(min=limits.min)
    shifts = exponents.amax(1)
    kernel = exponents.sub_(shifts[:, None]).exp_()
    sample_weights = shifts.exp_()
    # Autocast would round these products to half precision.
    with torch.autocast(scores.device.type, enabled=False):
        for _ in range(num_iters):
            mass = sample_weights @ kernel  # (K,)
            all_reduce(mass, 'sum')
            # Only ratios matter: let the largest be 1. A weight of 0 could
            # leave a sample nothing to divide by.
            prototype_weights = (mass.amin() / mass).clamp_(min=limits.tiny)
            sample_weights = 1 / (kernel @ prototype_weights)  # (N,)
    return kernel.mul_(prototype_weights).mul_(sample_weights[:, None])


def check_sinkhorn(epsilon: float, num_iters: int) -> None:
    """Check the numbers that `sinkhorn` takes.

    Raises:
        ValueError: One is out of range.
    """
    if not epsilon > 0 or num_iters < 1:
        raise ValueError(
            f'got epsilon={epsilon} and num_iters={num_iters}; Sinkhorn '
            'needs epsilon > 0 (SwAV: 0.05) and num_iters >= 1 (SwAV: 3).'
        )


def harden(codes: Tensor) -> Tensor:
    """Put each row's mass on its largest entry: (N, K) -> (N, K) one-hot."""
    hard = torch.zeros_like(codes)
    return hard.scatter_(1, codes.argmax(1, keepdim=True), 1)


def swapped_prediction_loss(
    scores: Tensor, codes: Tensor, temperature: float = 0.1
) -> Tensor:
    r"""Predict the code of each assigned view from every other view.

    .. math:: \frac{1}{A (V - 1) B} \sum_{a < A} \sum_{v \ne a}
              \sum_b -q_{ab} \cdot \log \mathrm{softmax}(z_{vb} / T)

    Args:
        scores: (V, B, K) similarities of all views to the prototypes.
        codes: (A, B, K) targets of the first A views, rows summing to 1.
        temperature: T, > 0.

    Returns:
        Scalar mean over this rank's images, float32 or float64. No gradient
        flows into `codes`.

    Raises:
        ValueError: The shapes do not fit together or there is only one
            view.

    Source: SwAV (arXiv:2006.09882), eq. 1, 2 and 6.

    >>> scores = torch.zeros(3, 2, 4)
    >>> codes = torch.full((2, 2, 4), 0.25)
    >>> swapped_prediction_loss(scores, codes)  # ln 4
    tensor(1.3863)
    """
    num_views, num_assigned = len(scores), len(codes)
    if (
        num_views < 2
        or not 1 <= num_assigned <= num_views
        or scores.shape[1:] != codes.shape[1:]
    ):
        raise ValueError(
            f'got scores {tuple(scores.shape)} and codes '
            f'{tuple(codes.shape)}; expected (V, B, K) and (A, B, K) with '
            'V >= 2 views of which the first 1 <= A <= V have codes.'
        )
    scores = at_least_float32(scores)
    log_predictions = F.log_softmax(scores / temperature, dim=2)
    losses = []
    for view, code in enumerate(codes.detach()):
        cross_entropies = -(code * log_predictions).sum(2).mean(1)  # (V,)
        # A view does not predict its own code.
        others = cross_entropies.sum() - cross_entropies[view]
        losses.append(others / (num_views - 1))
    return torch.stack(losses).mean()


def at_least_float32(tensor: Tensor) -> Tensor:
    """Convert half precision to float32; leave float32 and float64 alone."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
