"""SwAV in NumPy float64, written from the paper (arXiv:2006.09882).

Slow and plain on purpose: what the tests compare the package with. Letters:
V views (the first A get codes), B images, K prototypes, D embedding size.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def log_sum_exp(x: Array, axis: int) -> Array:
    """Logarithm of the sum of exponentials, keeping the axis."""
    top = x.max(axis=axis, keepdims=True)
    return top + np.log(np.exp(x - top).sum(axis=axis, keepdims=True))


def sinkhorn(scores: Array, epsilon: float, num_iters: int) -> Array:
    """Appendix A: (N, K) scores of all samples -> (N, K) codes.

    Prototypes get 1 / K of the mass each, then samples 1 / N, `num_iters`
    times; in the log domain, where nothing overflows.
    """
    num_samples, num_prototypes = scores.shape
    log_q = np.asarray(scores, np.float64) / epsilon
    for _ in range(num_iters):
        log_q = log_q - log_sum_exp(log_q, 0) - np.log(num_prototypes)
        log_q = log_q - log_sum_exp(log_q, 1) - np.log(num_samples)
    return np.exp(log_q) * num_samples


def swapped_prediction_loss(
    scores: Array, codes: Array, temperature: float
) -> float:
    """Equations 1, 2 and 6: (V, B, K) scores, (A, B, K) codes -> loss."""
    scores = np.asarray(scores, np.float64)
    log_p = scores / temperature
    log_p = log_p - log_sum_exp(log_p, 2)
    terms = [
        -(code * log_p[view]).sum(1).mean()
        for assigned, code in enumerate(codes)
        for view in range(len(scores))
        if view != assigned
    ]
    return float(np.mean(terms))


class Queue:
    """Section 3.1, "working with small batches": A queues, newest first."""

    def __init__(self, num_views: int, length: int) -> None:
        self.rows: list[list[Array]] = [[] for _ in range(num_views)]
        self.length = length

    @property
    def is_full(self) -> bool:
        return len(self.rows[0]) == self.length

    def push(self, embeddings: Array) -> None:
        for rows, batch in zip(self.rows, embeddings):
            rows[:0] = list(batch)
            del rows[self.length :]


def batch_loss(
    embeddings: Array,
    prototypes: Array,
    queue: Queue,
    num_coded: int,
    epsilon: float,
    num_iters: int,
    temperature: float,
) -> tuple[float, Array]:
    """Loss and codes of (V, B, D) embeddings of all ranks; feeds the queue."""
    prototypes = prototypes / np.linalg.norm(prototypes, axis=1, keepdims=True)
    scores = embeddings @ prototypes.T
    codes = []
    for view in range(num_coded):
        rows = scores[view]
        if queue.is_full:
            rows = np.concatenate(
                [np.stack(queue.rows[view]) @ prototypes.T, rows]
            )
        codes.append(
            sinkhorn(rows, epsilon, num_iters)[-embeddings.shape[1] :]
        )
    queue.push(embeddings[:num_coded])
    stacked = np.stack(codes)
    return swapped_prediction_loss(scores, stacked, temperature), stacked


def larc_update(
    weight: Array,
    gradient: Array,
    momentum_buffer: Array,
    lr: float,
    momentum: float,
    weight_decay: float,
    trust_coefficient: float,
    eps: float,
    clip: bool,
) -> tuple[Array, Array]:
    """LARC around SGD: new weight and momentum buffer of one tensor."""
    weight_norm = np.linalg.norm(weight)
    gradient_norm = np.linalg.norm(gradient)
    if weight_norm != 0 and gradient_norm != 0:
        rate = (
            trust_coefficient
            * weight_norm
            / (gradient_norm + weight_decay * weight_norm + eps)
        )
        if clip:
            rate = min(rate / lr, 1)
        gradient = rate * (gradient + weight_decay * weight)
    momentum_buffer = momentum * momentum_buffer + gradient
    return weight - lr * momentum_buffer, momentum_buffer


def cosine_schedule(
    base: float,
    final: float,
    num_iters: int,
    start: float = 0,
    num_warmup_iters: int = 0,
) -> Array:
    """Learning rate of every iteration: linear warm-up, then cosine."""
    warmup = np.linspace(start, base, num_warmup_iters)
    num_cosine = num_iters - num_warmup_iters
    phase = np.pi * np.arange(num_cosine) / num_cosine
    return np.concatenate(
        [warmup, final + 0.5 * (base - final) * (1 + np.cos(phase))]
    )
