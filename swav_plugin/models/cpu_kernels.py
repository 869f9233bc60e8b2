"""Loops of Sinkhorn and the loss, compiled for a CPU by numba.

Each does in one visit to a row, while it is in cache, what torch does in
several. `swav_loss.py` has the same in torch, for other devices and without
numba.

Letters for shapes: N any rows, V views (the first A have codes), B images, K
prototypes.
"""

import numpy as np

from swav_plugin.compat.jit import NO_NUMBA, jit_reordering

HAS_NUMBA = NO_NUMBA is None

_ZERO, _ONE = np.float32(0), np.float32(1)
_LOG2_E = np.float32(np.log2(np.e))
_TINY = np.finfo(np.float32).tiny
_LEAST = np.float32(-126)  # exponent of 2
# 2^f, f in [-1/2, 1/2], by a polynomial of degree 6 that was fitted to the
# least relative error; in float32 it is within 1.0e-7, torch.exp2 within
# 0.7e-7.
_C0, _C1, _C2, _C3, _C4, _C5, _C6 = (
    np.float32(c)
    for c in (
        1.0,
        0.69314718,
        0.24022646,
        0.055503286,
        0.0096184891,
        0.0013399931,
        0.00015345811,
    )
)


def powers_of_2(
    exponents: np.ndarray, scale: float, out: np.ndarray, sums: np.ndarray
) -> None:
    """Set `out` to 2 ** (scale * exponents) and `sums` to its columns'.

    Args:
        exponents: (N, K) float32, times `scale` within [-126, 127].
        scale: Any number.
        out: (N, K) float32.
        sums: (K,) float32.
    """
    biased = np.empty(exponents.shape[1], np.int32)
    # The bits of biased << 23, read as a float, are 2^(biased - 127).
    _powers_of_2(
        exponents,
        np.float32(scale),
        out,
        sums,
        biased,
        biased.view(np.float32),
    )


@jit_reordering
def _powers_of_2(
    exponents: np.ndarray,
    scale: np.float32,
    out: np.ndarray,
    sums: np.ndarray,
    bits: np.ndarray,
    whole_power: np.ndarray,
) -> None:
    """As `powers_of_2`; `bits` and `whole_power` (K,) are one memory."""
    sums[:] = 0
    for row in range(len(out)):
        exponent, power = exponents[row], out[row]
        for k in range(len(sums)):
            scaled = exponent[k] * scale
            whole = np.rint(scaled)
            f = scaled - whole
            bits[k] = (np.int32(whole) + np.int32(127)) << np.int32(23)
            power[k] = _power_of_2(f)
        for k in range(len(sums)):
            power[k] *= whole_power[k]
            sums[k] += power[k]


@jit_reordering
def _power_of_2(f: np.float32) -> np.float32:
    """2 ** f, f within [-1/2, 1/2]."""
    return _C0 + f * (
        _C1 + f * (_C2 + f * (_C3 + f * (_C4 + f * (_C5 + f * _C6))))
    )


@jit_reordering
def sums_of_equalised_rows(
    kernel: np.ndarray, prototype_scale: np.ndarray, sums: np.ndarray
) -> None:
    """Set `sums` to the columns' after each row is divided by its own sum.

    Args:
        kernel: (N, K) float32 >= 0, left as it is.
        prototype_scale: (K,) float32 factors of the columns for the rows'
            sums.
        sums: (K,) float32.
    """
    sums[:] = 0
    num_rows = len(kernel)
    # Two rows at a time: half as many visits to `sums`.
    for row in range(0, num_rows - 1, 2):
        upper, lower = kernel[row], kernel[row + 1]
        p = _ONE / max(_dot(upper, prototype_scale), _TINY)
        q = _ONE / max(_dot(lower, prototype_scale), _TINY)
        for k in range(len(sums)):
            sums[k] += p * upper[k] + q * lower[k]
    if num_rows % 2:
        last = kernel[num_rows - 1]
        p = _ONE / max(_dot(last, prototype_scale), _TINY)
        for k in range(len(sums)):
            sums[k] += p * last[k]


@jit_reordering
def equalised_rows(
    kernel: np.ndarray, prototype_scale: np.ndarray, out: np.ndarray
) -> None:
    """Set `out` to `kernel` with scaled columns, each row summing to 1.

    Args:
        kernel: (N, K) float32 >= 0, left as it is.
        prototype_scale: (K,) float32 factors of the columns.
        out: (N, K) float32.
    """
    for row in range(len(kernel)):
        powers, codes = kernel[row], out[row]
        scale = _ONE / max(_dot(powers, prototype_scale), _TINY)
        for k in range(len(codes)):
            codes[k] = scale * prototype_scale[k] * powers[k]


def loss_to_gradient(
    scores: np.ndarray, codes: np.ndarray, temperature: float
) -> float:
    """Return the swapped prediction loss; leave its gradient in `scores`.

    Args:
        scores: (V, B, K) float32.
        codes: (A, B, K) float32.
        temperature: T, > 0.
    """
    biased = np.empty(scores.shape[2], np.int32)
    return _loss_to_gradient(
        scores,
        codes,
        codes.sum(0),
        np.float32(1 / temperature),
        biased,
        biased.view(np.float32),
    )


@jit_reordering
def _loss_to_gradient(
    scores: np.ndarray,
    codes: np.ndarray,
    every_code: np.ndarray,
    steepness: np.float32,
    bits: np.ndarray,
    whole_power: np.ndarray,
) -> float:
    """As `loss_to_gradient`; `steepness` is 1 / T."""
    num_views, num_images, _ = scores.shape
    num_coded = len(codes)
    num_pairs = num_coded * (num_views - 1) * num_images
    gradient_scale = np.float32(steepness / num_pairs)
    loss = 0.0
    for view in range(num_views):
        # A view does not predict its own code.
        is_coded = view < num_coded
        count = num_coded - 1 if is_coded else num_coded
        own_weight = _ONE if is_coded else _ZERO
        for image in range(num_images):
            row, every = scores[view, image], every_code[image]
            own = codes[view if is_coded else 0, image]
            top = _max(row)
            loss -= steepness * _dot_target(row, every, own, own_weight)
            _scaled_powers_of_2(row, top, steepness * _LOG2_E, bits)
            total = _multiply_and_sum(row, whole_power)
            loss += count * (steepness * top + np.log(total))
            _subtract_target(
                row,
                gradient_scale * np.float32(count) / total,
                gradient_scale,
                every,
                own,
                own_weight,
            )
    return loss / num_pairs


# Each in a function of its own: LLVM sees arrays that do not overlap.
@jit_reordering
def _max(row: np.ndarray) -> np.float32:
    """Largest of (K,)."""
    top = row[0]
    for k in range(len(row)):
        top = max(top, row[k])
    return top


@jit_reordering
def _dot_target(
    row: np.ndarray, every: np.ndarray, own: np.ndarray, own_weight: np.float32
) -> np.float32:
    """Product of (K,) with the codes that its view predicts."""
    total = _ZERO
    for k in range(len(row)):
        total += row[k] * (every[k] - own_weight * own[k])
    return total


@jit_reordering
def _scaled_powers_of_2(
    row: np.ndarray, top: np.float32, scale: np.float32, bits: np.ndarray
) -> None:
    """2 ** ((row - top) * scale), less the factors 2 ** whole in `bits`."""
    for k in range(len(row)):
        exponent = max((row[k] - top) * scale, _LEAST)
        whole = np.rint(exponent)
        f = exponent - whole
        bits[k] = (np.int32(whole) + np.int32(127)) << np.int32(23)
        row[k] = _power_of_2(f)


@jit_reordering
def _multiply_and_sum(row: np.ndarray, factors: np.ndarray) -> np.float32:
    """Multiply (K,) by (K,), in place; return the sum."""
    total = _ZERO
    for k in range(len(row)):
        row[k] *= factors[k]
        total += row[k]
    return total


@jit_reordering
def _subtract_target(
    row: np.ndarray,
    scale: np.float32,
    target_scale: np.float32,
    every: np.ndarray,
    own: np.ndarray,
    own_weight: np.float32,
) -> None:
    """Turn powers (K,) into the gradient of their scores, in place."""
    for k in range(len(row)):
        target = every[k] - own_weight * own[k]
        row[k] = scale * row[k] - target_scale * target


@jit_reordering
def _dot(a: np.ndarray, b: np.ndarray) -> np.float32:
    """Sum of products of two (K,)."""
    total = np.float32(0)
    for k in range(len(a)):
        total += a[k] * b[k]
    return total
