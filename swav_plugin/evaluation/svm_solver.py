"""Linear SVMs, many side by side: Newton's method with conjugate gradients.

N images, P classifiers trained side by side, R principal directions. A
leading ... is any number of batch dimensions.

Everything is float64. A Gram matrix of features narrower than N is singular,
and float32 can't factor it; where it can, w at a cost of 100 is as far off as
the tolerance.
"""

import torch
from torch import Tensor

# Principal directions that the preconditioner knows, at most.
_NUM_DIRECTIONS = 100


def fit_svms(
    gram: Tensor,
    targets: Tensor,
    weights: Tensor,
    start: Tensor | None = None,
    tolerance: float = 1e-5,
    max_steps: int = 100,
) -> Tensor:
    """Train P linear SVMs on the same images, side by side.

    Each minimizes |w|^2 / 2 + sum_i weight_i max(0, 1 - target_i <w, x_i>)^2
    by Newton's method with conjugate gradients over w, in coordinates in
    which the images are the rows of the Gram matrix's Cholesky factor: all
    work is products of that factor with P columns. A constant 1 at the end of
    each x makes the last of w a bias, which is penalized as the rest is
    (LIBLINEAR's `intercept_scaling=1`).

    Args:
        gram: (..., N, N) <x_i, x_j>, float64; it may be singular.
        targets: (..., N, P) of 1 and -1.
        weights: (..., N, P), >= 0; 0 leaves an image out.
        start: (..., N, P) beta to start from.
        tolerance: An SVM is done when the duality gap proves that w is within
            this share of its length from the optimum.
        max_steps: Newton steps, >= 1; more than 10 are rare.

    Returns:
        (..., N, P) beta, with w = sum_i beta_i x_i.

    Raises:
        RuntimeError: `max_steps` are not enough.

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
        # At the optimum w = images^T beta. Elsewhere beta is still feasible
        # in the dual, and its gap to w is half their squared distance. The
        # objective is strongly convex, so neither is farther than that
        # distance from the optimum. This is what has to converge.
        beta = 2 * weights * targets * margins
        residual = images.mT @ beta - w  # minus the gradient
        distance, length = _dot(residual, residual), _dot(w, w)
        is_done = distance <= tolerance**2 * length
        solved[..., columns] = beta
        if is_done.all():
            return solved
        # Drop the columns that are done in the whole batch. One that is done
        # in a part of it rests there: its residual is rounding, which
        # conjugate gradients would chase.
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
        # Updated, not recomputed: the step has come with its scores.
        scores = scores + size * step_scores
    raise RuntimeError(
        f'{len(columns)} of {solved.shape[-1]} SVMs did not converge in '
        f'{max_steps} Newton steps: w may be off by '
        f'{float((distance / length).max().sqrt()):.1e} of its length.'
    )


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner products of columns, (..., 1, P)."""
    return (a * b).sum(-2, keepdim=True)


def _factor(gram: Tensor) -> Tensor:
    """Find N vectors with the inner products of a Gram matrix: (..., N, N).

    They are the images in N coordinates, however wide the features are. The
    diagonal is raised by 1e-12 of the trace, so that the matrix may be
    singular: w changes less than the tolerance.
    """
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    raised = 1e-12 * diagonal.sum(-1, keepdim=True).expand_as(diagonal)
    return torch.linalg.cholesky(gram + raised.diag_embed())


def _principal_directions(images: Tensor) -> tuple[Tensor, Tensor]:
    """Find the directions in which images vary most, and how much.

    By subspace iteration from a fixed start. They need not be exact: the
    preconditioner changes how fast conjugate gradients converge, not where.

    Args:
        images: (..., N, N).

    Returns:
        (..., N, R) directions and (..., R, 1) their eigenvalues, ascending.
    """
    rank = min(_NUM_DIRECTIONS, images.shape[-1])
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

    By conjugate gradients; a tenth is enough, since Newton's method corrects
    the rest in its next step.

    Args:
        images: (..., N, N).
        basis: (..., N, R), as `_principal_directions` gives it.
        spectrum: (..., R, 1).
        curvature: (..., N, P), 0 for images outside the margin.
        residual: (..., N, P).

    Returns:
        The step and images @ step, (..., N, P) each.
    """
    # The matrix is I plus a few large eigenvalues: features after a ReLU have
    # a common direction with most of the variance, times costs up to 100.
    # Conjugate gradients would need an iteration for each of them. The
    # preconditioner takes them out: the same matrix with the mean curvature
    # for all images is diagonal in `basis`; outside of it, all eigenvalues are
    # taken to be the smallest known one.
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
        # A column that is solved rests: exactly solved, it would be 0 / 0.
        length = torch.where(is_open, product / _dot(direction, ahead), 0.0)
        step = step + length * direction
        step_scores = step_scores + length * scores
        residual = residual - length * ahead
        z = precondition(residual)
        new = _dot(residual, z)
        is_open = is_open & (new > 0.01 * first)  # squared: a tenth
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
    """Find the step size that minimizes the objective, (..., 1, P).

    A full Newton step can overshoot where images cross the margin. Newton's
    method on the derivative, which grows with the size; half-way between the
    known bounds where it would leave them.
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
        # A step of length 0 has no curvature.
        size = size - first / second.clamp(min=1e-30)
        size = torch.where(
            (size > low) & (size < high), size, (low + high) / 2
        )
    return size
