"""SwAV's maths: codes by Sinkhorn and the swapped prediction loss.

Pure functions, no state. Letters for shapes: V views (the first A get codes),
B images per rank, K prototypes, D embedding size, N any rows.
"""

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

_Function = TypeVar('_Function', bound=Callable[..., Tensor])

# Powers of two are taken instead of powers of e: the same numbers once the
# exponent is scaled by log2(e), and twice as fast on a CPU.
_LOG2_E = math.log2(math.e)

# On a CPU the kernel matrix is swept in blocks of rows that stay in cache.
_CPU_BLOCK_BYTES = 2**22


def _in_full_precision(function: _Function) -> _Function:
    """Run `function` outside autocast, whatever the caller is in."""

    @wraps(function)
    def wrapped(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        with torch.autocast(tensor.device.type, enabled=False):
            return function(tensor, *args, **kwargs)

    return wrapped  # type: ignore[return-value]


@torch.no_grad()
@_in_full_precision
def sinkhorn(
    scores: Tensor, epsilon: float = 0.05, num_iters: int = 3
) -> Tensor:
    """Assign samples to prototypes so that all prototypes get equal mass.

    Samples may be spread over ranks; each rank passes its own rows and gets
    their codes back. Safe for any finite score.

    Args:
        scores: (N, K) similarities of this rank's N samples to K prototypes,
            any float dtype. N may differ between ranks.
        epsilon: Entropy weight, > 0. Smaller gives harder codes.
        num_iters: Sweeps, >= 1. A sweep equalises prototypes, then samples.

    Returns:
        (N, K) codes, each row summing to 1; float32, or float64 if the scores
        are.

    Raises:
        ValueError: If `epsilon` or `num_iters` is out of range.

    Source: SwAV (arXiv:2006.09882), eq. 3 and Appendix A.

    >>> sinkhorn(torch.zeros(2, 4))[0]
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    _check_sinkhorn(epsilon, num_iters)
    scores = _at_least_float32(scores)
    # Every row and every column of `exponents` gets a 0 and nothing above it,
    # so that no sum below can overflow or vanish. Prototype shifts cancel in
    # the first sweep; sample shifts are put back as its starting weights.
    exponents = scores - _reduce(scores.amax(0), dist.ReduceOp.MAX)
    exponents.mul_(_LOG2_E / epsilon).clamp_(torch.finfo(scores.dtype).min / 2)
    row_max = exponents.amax(1)
    kernel = exponents.sub_(row_max[:, None]).exp2_()
    mass = row_max.exp2_() @ kernel
    return _sweep(kernel, mass, num_iters, num_codes=len(kernel))


@torch.no_grad()
@_in_full_precision
def sinkhorn_with_queue(
    scores: Tensor,
    queued: Tensor,
    prototypes: Tensor,
    epsilon: float = 0.05,
    num_iters: int = 3,
    buffer: Tensor | None = None,
) -> Tensor:
    """Codes of a batch, equalised together with queued embeddings.

    The same as `sinkhorn(cat([queued @ prototypes.T, scores]))`, cut to the
    batch's rows, in less time and memory.

    Args:
        scores: (B, K) cosines of this rank's batch to the prototypes.
        queued: (N, D) this rank's share of the queue, rows of unit norm.
        prototypes: (K, D) rows of unit norm.
        epsilon: Entropy weight, > 0.
        num_iters: Sweeps, >= 1.
        buffer: (N + B, K) scratch memory to overwrite. Reusing it between
            steps saves a large allocation, a third of the time on a CPU.

    Returns:
        (B, K) codes, each row summing to 1.

    Source: SwAV (arXiv:2006.09882), section 3.1, "working with small batches".
    """
    _check_sinkhorn(epsilon, num_iters)
    steepness = _LOG2_E / epsilon
    # Cosines are in [-1, 1]; their powers fit float32 unless this is steep.
    if steepness > 60:
        every_score = torch.cat([queued @ prototypes.T, scores])
        return sinkhorn(every_score, epsilon, num_iters)[len(queued) :]
    if buffer is None:
        buffer = scores.new_empty(len(queued) + len(scores), len(prototypes))
    kernel, batch_kernel = buffer[: len(queued)], buffer[len(queued) :]
    mass = _powers_of_2(scores, steepness, batch_kernel)
    block = _block_rows(kernel)
    products = torch.empty_like(kernel[:block])
    for rows, out in zip(queued.split(block), kernel.split(block)):
        # Products stay in cache; only their powers go to memory.
        product = torch.mm(rows, prototypes.T, out=products[: len(rows)])
        mass += _powers_of_2(product, steepness, out)
    return _sweep(buffer, mass, num_iters, num_codes=len(scores))


def _sweep(
    kernel: Tensor, mass: Tensor, num_iters: int, num_codes: int
) -> Tensor:
    """Codes (num_codes, K) of the last rows of `kernel` (N, K).

    `mass` (K,) is what each prototype holds on this rank before any sweep.
    """
    blocks = kernel.split(_block_rows(kernel))
    prototype_scale = _prototype_scale(mass)
    for _ in range(num_iters - 1):
        mass = torch.zeros_like(mass)
        # There and back: a sweep starts with what is still in cache.
        blocks = blocks[::-1]
        for rows in blocks:
            mass += _sums_of_equalised_rows(rows, prototype_scale)
        prototype_scale = _prototype_scale(mass)
    return _equalised_rows(kernel[len(kernel) - num_codes :], prototype_scale)


def _powers_of_2(exponents: Tensor, scale: float, out: Tensor) -> Tensor:
    """Set `out` (N, K) to 2 ** (scale * exponents); return its column sums."""
    kernels = _cpu_kernels(out)
    if kernels is None:
        return torch.mul(exponents, scale, out=out).exp2_().sum(0)
    sums = out.new_empty(out.shape[1])
    kernels.powers_of_2(exponents.numpy(), scale, out.numpy(), sums.numpy())
    return sums


def _sums_of_equalised_rows(kernel: Tensor, prototype_scale: Tensor) -> Tensor:
    """Column sums (K,) after dividing each row of (N, K) by its scaled sum."""
    kernels = _cpu_kernels(kernel)
    if kernels is None:
        tiny = torch.finfo(kernel.dtype).tiny
        sample_scale = (kernel @ prototype_scale).clamp_(tiny).reciprocal_()
        return sample_scale @ kernel
    sums = torch.empty_like(prototype_scale)
    kernels.sums_of_equalised_rows(
        kernel.numpy(), prototype_scale.numpy(), sums.numpy()
    )
    return sums


def _equalised_rows(kernel: Tensor, prototype_scale: Tensor) -> Tensor:
    """Scale columns of (N, K), then divide each row by its sum."""
    kernels = _cpu_kernels(kernel)
    if kernels is None:
        tiny = torch.finfo(kernel.dtype).tiny
        rows = kernel * prototype_scale
        return rows.div_(rows.sum(1, keepdim=True).clamp_(tiny))
    rows = torch.empty_like(kernel)
    kernels.equalised_rows(
        kernel.numpy(), prototype_scale.numpy(), rows.numpy()
    )
    return rows


def _prototype_scale(mass: Tensor) -> Tensor:
    """Factors (K,) that give all prototypes the same mass over the ranks."""
    tiny = torch.finfo(mass.dtype).tiny
    scale = _reduce(mass, dist.ReduceOp.SUM).clamp_(tiny).reciprocal_()
    # Only ratios matter; this keeps them inside the range of floats.
    return scale / scale.amax()


def harden(codes: Tensor) -> Tensor:
    """Put each row's mass on its largest entry: (N, K) -> (N, K) one-hot."""
    hard = torch.zeros_like(codes)
    return hard.scatter_(1, codes.argmax(1, keepdim=True), 1)


@_in_full_precision
def swapped_prediction_loss(
    scores: Tensor, codes: Tensor, temperature: float = 0.1
) -> Tensor:
    r"""Predict the code of each coded view from every other view.

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
        ValueError: If the shapes do not belong together or there is only one
            view.

    Source: SwAV (arXiv:2006.09882), eq. 1, 2 and 6.

    >>> scores = torch.zeros(3, 2, 4)
    >>> codes = torch.full((2, 2, 4), 0.25)
    >>> swapped_prediction_loss(scores, codes)  # ln 4
    tensor(1.3863)
    """
    num_views, num_coded = len(scores), len(codes)
    if (
        num_views < 2
        or not 1 <= num_coded <= num_views
        or (scores.shape[1:] != codes.shape[1:])
    ):
        raise ValueError(
            f'got scores {tuple(scores.shape)} and codes '
            f'{tuple(codes.shape)}; expected (V, B, K) and (A, B, K) with '
            'V >= 2 views of which the first 1 <= A <= V have codes.'
        )
    scores = _at_least_float32(scores)
    return _SwappedPrediction.apply(scores, codes.to(scores), temperature)


@_in_full_precision
def prototype_loss_(
    embeddings: Tensor,
    prototypes: Tensor,
    scores: Tensor,
    codes: Tensor,
    temperature: float,
) -> Tensor:
    """`swapped_prediction_loss` of embeddings, whose scores it overwrites.

    For a training step, which has the scores from making the codes: nothing
    of their size is allocated or kept for the backward pass.

    Args:
        embeddings: (V * B, D), view by view.
        prototypes: (K, D).
        scores: (V, B, K) embeddings @ prototypes.T, without a graph.
        codes: (A, B, K) as for `swapped_prediction_loss`.
        temperature: T, > 0.

    Returns:
        Scalar with gradients for `embeddings` and `prototypes`.
    """
    return _PrototypeLoss.apply(
        embeddings, prototypes, scores, codes, temperature
    )


class _SwappedPrediction(torch.autograd.Function):
    """The loss of scores, keeping its gradient."""

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, codes: Tensor, temperature: float
    ) -> Tensor:
        gradient = scores.clone(memory_format=torch.contiguous_format)
        loss = _loss_to_gradient_(gradient, codes, temperature)
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple:
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None, None


class _PrototypeLoss(torch.autograd.Function):
    """The loss of embeddings, keeping both gradients, which are small."""

    @staticmethod
    def forward(
        ctx: Any,
        embeddings: Tensor,
        prototypes: Tensor,
        scores: Tensor,
        codes: Tensor,
        temperature: float,
    ) -> Tensor:
        loss = _loss_to_gradient_(scores, codes, temperature)
        gradient = scores.flatten(0, 1)
        ctx.save_for_backward(gradient @ prototypes, gradient.T @ embeddings)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple:
        for_embeddings, for_prototypes = ctx.saved_tensors
        return for_embeddings * grad, for_prototypes * grad, None, None, None


def _loss_to_gradient_(
    scores: Tensor, codes: Tensor, temperature: float
) -> Tensor:
    """Return the loss; leave its gradient in place of (V, B, K) `scores`.

    Summed over the pairs of one view, the targets are what `codes` sum to
    without the view's own code; so each view is visited once, not each pair.
    """
    kernels = _cpu_kernels(scores)
    if kernels is not None:
        loss = kernels.loss_to_gradient(
            scores.numpy(), codes.detach().contiguous().numpy(), temperature
        )
        return scores.new_tensor(loss)
    num_views, num_images, _ = scores.shape
    num_coded = len(codes)
    # (V, B, K) without ever holding the V - A equal targets.
    every_code = codes.sum(0)
    targets = [every_code - code for code in codes]
    targets += [every_code] * (num_views - num_coded)
    # How many codes each view predicts: it does not predict its own.
    num_targets = [num_coded - 1] * num_coded
    num_targets += [num_coded] * (num_views - num_coded)
    per_pair = 1 / (num_coded * (num_views - 1) * num_images)
    gradient_scale = per_pair / temperature

    loss = scores.new_zeros(())
    for view, target, count in zip(scores, targets, num_targets):
        top = view.amax(1, keepdim=True)
        loss -= torch.dot(view.view(-1), target.view(-1)) / temperature
        power = view.sub_(top).mul_(_LOG2_E / temperature).exp2_()
        total = power.sum(1, keepdim=True)
        loss += count * (top / temperature + total.log()).sum()
        # d loss / d score = (softmax * count - target) / T / pairs
        power.mul_(count * gradient_scale / total)
        power.sub_(target, alpha=gradient_scale)
    return loss * per_pair


def _check_sinkhorn(epsilon: float, num_iters: int) -> None:
    if epsilon <= 0 or num_iters < 1:
        raise ValueError(
            f'got epsilon={epsilon} and num_iters={num_iters}; Sinkhorn '
            'needs epsilon > 0 (SwAV: 0.05) and num_iters >= 1 (SwAV: 3).'
        )


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _reduce(tensor: Tensor, op: Any) -> Tensor:
    """Combine `tensor` over the ranks of the default group, in place."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(tensor, op)
    return tensor


def _cpu_kernels(matrix: Tensor) -> Any:
    """The compiled loops, where numba is and (N, K) `matrix` is large."""
    if (
        matrix.device.type != 'cpu'
        or matrix.dtype != torch.float32
        or (
            matrix.nbytes < _CPU_BLOCK_BYTES // 16
            or not matrix.is_contiguous()
        )
    ):
        return None
    from . import cpu_kernels  # here, for numba takes a second to import

    return cpu_kernels if cpu_kernels.HAS_NUMBA else None


def _block_rows(matrix: Tensor) -> int:
    """How many rows of (N, K) `matrix` to work on at once."""
    if matrix.device.type != 'cpu':
        return len(matrix)
    row_bytes = matrix.shape[1] * matrix.element_size()
    return max(1, _CPU_BLOCK_BYTES // row_bytes)
