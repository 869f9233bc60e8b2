"""Loops of Sinkhorn over a large matrix, compiled for a CPU by numba.

Each does in one visit to a row, while it is in cache, what torch does in two.
`swav_loss.py` has the same in torch, for other devices and without numba.

Letters for shapes: N any rows, K prototypes.
"""
import numpy as np

from swav_plugin.compat.jit import NO_NUMBA, jit_reordering

HAS_NUMBA = NO_NUMBA is None

_ONE = np.float32(1)
_TINY = np.finfo(np.float32).tiny
# 2^f, f in [-1/2, 1/2], by a polynomial of degree 6 that was fitted to the
# least relative error; in float32 it is within 1.0e-7, torch.exp2 within
# 0.7e-7.
_C0, _C1, _C2, _C3, _C4, _C5, _C6 = (
    np.float32(c) for c in (1., .69314718, .24022646, .055503286, .0096184891,
                            .0013399931, .00015345811))


def powers_of_2(exponents: np.ndarray, out: np.ndarray,
                sums: np.ndarray) -> None:
    """Set `out` to 2 to the power of `exponents` and `sums` to its columns'.

    Args:
        exponents: (N, K) float32 within [-126, 127].
        out: (N, K) float32.
        sums: (K,) float32.
    """
    biased = np.empty(exponents.shape[1], np.int32)
    # The bits of biased << 23, read as a float, are 2^(biased - 127).
    _powers_of_2(exponents, out, sums, biased, biased.view(np.float32))


@jit_reordering
def _powers_of_2(exponents: np.ndarray, out: np.ndarray, sums: np.ndarray,
                 bits: np.ndarray, whole_power: np.ndarray) -> None:
    """As `powers_of_2`; `bits` and `whole_power` (K,) are one memory."""
    sums[:] = 0
    for row in range(len(out)):
        exponent, power = exponents[row], out[row]
        for k in range(len(sums)):
            whole = np.rint(exponent[k])
            f = exponent[k] - whole
            bits[k] = (np.int32(whole) + np.int32(127)) << np.int32(23)
            power[k] = _C0 + f * (_C1 + f * (_C2 + f * (_C3 + f * (
                _C4 + f * (_C5 + f * _C6)))))
        for k in range(len(sums)):
            power[k] *= whole_power[k]
            sums[k] += power[k]


@jit_reordering
def sums_of_equalised_rows(kernel: np.ndarray, prototype_scale: np.ndarray,
                           sums: np.ndarray) -> None:
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
def _dot(a: np.ndarray, b: np.ndarray) -> np.float32:
    """Sum of products of two (K,)."""
    total = np.float32(0)
    for k in range(len(a)):
        total += a[k] * b[k]
    return total
