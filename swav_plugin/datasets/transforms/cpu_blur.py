"""`cpu_ops`: blur. Pillow's Gaussian is three box filters in each direction.

A box of fractional radius gives less weight to the pixels at its two ends.

A view is (3, size, size) uint8 and changed in place. n: any number of bytes.
"""

import math

import numpy as np

from swav_plugin.compat.jit import jit

from .cpu_resize import copy_bytes


@jit
def gaussian_blur(view: np.ndarray, sigma: float) -> None:
    """Blur with a standard deviation in pixels, > 0.

    Source: Gwosdek et al., Theoretical foundations of Gaussian convolution by
    extended box filtering (2011), as implemented in Pillow.
    """
    size = view.shape[1]
    box = box_weights(sigma)
    margin = box[0] + 1
    pitch = size + 2 * margin
    # Edges are repeated in a margin, so that each pass is one loop over all
    # pixels: vertically, a neighbor is `pitch` bytes away.
    a = np.zeros((pitch, pitch), np.uint8)
    b = np.zeros((pitch, pitch), np.uint8)
    for channel in range(3):
        for y in range(size):
            copy_bytes(view[channel, y], a[margin + y, margin:])
        for _ in range(3):
            for y in range(margin, margin + size):
                _repeat_ends(a[y], margin)
            _box_filter(a, b, 1, box)
            a, b = b, a
        for _ in range(3):
            for y in range(margin):
                copy_bytes(a[margin], a[y])
                copy_bytes(a[margin + size - 1], a[margin + size + y])
            _box_filter(a, b, pitch, box)
            a, b = b, a
        for y in range(size):
            copy_bytes(a[margin + y, margin : margin + size], view[channel, y])


@jit
def box_weights(sigma: float) -> tuple:
    """Return the box that blurs by a standard deviation if used three times.

    Returns:
        How many whole pixels lie on each side of the center, the weight of
        each pixel within, and the weight of the next one on each side.
        Weights are in units of 2 ** -24.
    """
    # float32 where Pillow has float32, double where it has double: the radius
    # decides which bytes come out.
    one, two, three = np.float32(1), np.float32(2), np.float32(3)
    variance = np.float32(sigma) * np.float32(sigma) / three
    length = np.float32(math.sqrt(12.0 * variance + 1.0))
    whole = np.float32(math.floor((length - 1.0) / 2.0))
    part = (two * whole + one) * (whole * (whole + one) - three * variance)
    part /= np.float32(6) * (variance - (whole + one) * (whole + one))
    radius = int(whole + part)
    inner = int(np.float32(2**24) / (two * (whole + part) + one))
    outer = (2**24 - (2 * radius + 1) * inner) // 2
    return radius, np.uint32(inner), np.uint32(outer)


@jit
def _repeat_ends(row: np.ndarray, margin: int) -> None:
    """Fill `margin` bytes at each end of (n,) with the nearest one inside."""
    last = len(row) - 1 - margin
    for x in range(margin):
        row[x] = row[margin]
        row[last + 1 + x] = row[last]


@jit
def _box_filter(a: np.ndarray, b: np.ndarray, step: int, box: tuple) -> None:
    """Filter an image, (pitch, pitch), into another one, in one direction.

    Neighbors are `step` bytes apart. Bytes within (radius + 1) * step of an
    end of `b` stay as they are.
    """
    radius, inner, outer = box
    source, target = a.reshape(a.size), b.reshape(b.size)
    num = len(source) - 2 * (radius + 1) * step
    # The pixels at the two ends of each box. source[k * step:] are the k-th
    # ones from the left end.
    first, last = source[:num], source[len(source) - num :]
    out = target[(radius + 1) * step :][:num]
    if radius == 0:  # the sum of one pixel is the pixel
        _box_of_sums(first, source[step:], last, inner, outer, out)
    elif radius == 1:
        _box_of_3(
            first,
            source[step:],
            source[2 * step :],
            source[3 * step :],
            last,
            inner,
            outer,
            out,
        )
    else:  # rare: a sigma of more than 2.4 pixels
        sums = np.zeros(num, np.uint32)
        for k in range(1, 2 * radius + 2):
            _add_bytes(source[k * step :], sums)
        _box_of_sums(first, sums, last, inner, outer, out)


@jit
def _box_of_3(
    first: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    last: np.ndarray,
    inner: np.uint32,
    outer: np.uint32,
    out: np.ndarray,
) -> None:
    """Filter (n,) bytes with radius 1."""
    for x in range(len(out)):
        middle = np.uint32(a[x]) + b[x] + c[x]
        ends = np.uint32(first[x]) + last[x]
        out[x] = _top_byte(np.uint32(middle * inner + ends * outer))


@jit
def _box_of_sums(
    first: np.ndarray,
    sums: np.ndarray,
    last: np.ndarray,
    inner: np.uint32,
    outer: np.uint32,
    out: np.ndarray,
) -> None:
    """Filter (n,) bytes, given the (>= n,) sums of their boxes."""
    for x in range(len(out)):
        ends = np.uint32(first[x]) + last[x]
        out[x] = _top_byte(np.uint32(sums[x] * inner + ends * outer))


@jit
def _add_bytes(values: np.ndarray, sums: np.ndarray) -> None:
    """Add (>= n,) bytes to (n,) uint32 sums."""
    for x in range(len(sums)):
        sums[x] += np.uint32(values[x])


@jit
def _top_byte(total: np.uint32) -> np.uint8:
    """Round a sum in units of 2 ** -24 to a byte."""
    return np.uint8(np.uint32(total + 2**23) >> np.uint32(24))
