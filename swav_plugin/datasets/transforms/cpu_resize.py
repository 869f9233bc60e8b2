"""`cpu_ops`: crop and resize. Pillow's bilinear resize with antialiasing.

Each direction is a weighted sum of whole rows. To resize horizontally, the
rows are transposed first, so that the inner loop runs over neighboring bytes
there, too. The transpose moves blocks of 8 x 8 bytes, each row of a block as
one 64-bit word; rows are therefore padded to a multiple of 8 bytes.

Shapes: the image is (H, W, 3) uint8; a view is (3, size, size) uint8. n, m:
any numbers of bytes or words.
"""

import math

import numpy as np

from swav_plugin.compat.jit import jit

# Rows to resize horizontally at a time, at most: few enough to stay in the
# cache.
_STRIP = 64


@jit
def crop_and_resize(
    img: np.ndarray,
    top: int,
    left: int,
    height: int,
    width: int,
    is_flipped: bool,
    view: np.ndarray,
) -> None:
    """Cut a box out of the image, resize it to the view and maybe flip it.

    Source: Pillow's resize(), bilinear with antialiasing.
    """
    size = view.shape[1]
    rows = img.reshape(len(img), 3 * img.shape[1])
    across = resize_weights(width, size, is_flipped)
    down = resize_weights(height, size, False)
    # Pillow's rule since version 13. The order matters because values are
    # rounded to bytes in between.
    if height - size > max(0, 2 * (width - size)):
        flat = np.empty((size, 3 * width), np.uint8)
        _resize_rows(rows, top, 3 * left, down, flat)
        planes = _resize_columns(flat, 0, 0, size, width, across)
    else:
        narrow = _resize_columns(rows, top, 3 * left, height, width, across)
        planes = np.empty((size, narrow.shape[1]), np.uint8)
        _resize_rows(narrow, 0, 0, down, planes)
    pitch = planes.shape[1] // 3
    for y in range(size):
        for channel in range(3):
            start = channel * pitch
            copy_bytes(planes[y, start : start + size], view[channel, y])


@jit
def resize_weights(old: int, new: int, is_flipped: bool) -> tuple:
    """Return how each of `new` pixels in a line is mixed from `old` ones.

    Returns:
        For each new pixel the first old one, (new,); how many, (new,); and
        their weights, (new, most) int32 in units of 2 ** -22.
    """
    scale = old / new
    support = max(scale, 1.0)
    first = np.empty(new, np.int64)
    count = np.empty(new, np.int64)
    weights = np.zeros((new, 2 * math.ceil(support) + 1), np.int32)
    triangle = np.empty(weights.shape[1])
    for i in range(new):
        center = (i + 0.5) * scale
        start = max(0, int(center - support + 0.5))
        stop = min(old, int(center + support + 0.5))
        total = 0.0
        for k in range(stop - start):
            distance = (start + k - center + 0.5) * (1.0 / support)
            triangle[k] = max(0.0, 1.0 - abs(distance))
            total += triangle[k]
        target = new - 1 - i if is_flipped else i
        first[target] = start
        # Weights that round to 0 at the end are left out: a sum of fewer rows
        # takes less time. One is always there.
        count[target] = 1
        for k in range(stop - start):
            weights[target, k] = int(0.5 + triangle[k] / total * 2**22)
            if weights[target, k] > 0:
                count[target] = k + 1
    return first, count, weights


@jit
def _resize_columns(
    rows: np.ndarray,
    top: int,
    left: int,
    height: int,
    width: int,
    across: tuple,
) -> np.ndarray:
    """Resize horizontally: (height, 3 * width) bytes at rows[top, left].

    Returns:
        (>= height, 3 * pitch): each row is a line of red, one of green and
        one of blue, each padded from `size` to `pitch` bytes.
    """
    size = len(across[0])
    pitch = _multiple_of_8(size)
    num_rows = min(_STRIP, _multiple_of_8(height))
    planes = np.empty((height + num_rows, 3 * pitch), np.uint8)
    strip = np.zeros((num_rows, _multiple_of_8(3 * width)), np.uint8)
    columns = np.empty((strip.shape[1], num_rows), np.uint8)
    # The transposed strip once more, one row for each pixel: its red bytes,
    # then green, then blue. What follows is a weighted sum of such rows.
    pixels = columns[: 3 * width].reshape(width, 3 * num_rows)
    mixed = np.zeros((pitch, 3 * num_rows), np.uint8)
    strip_words, columns_words = strip.view(np.uint64), columns.view(np.uint64)
    mixed_words, planes_words = mixed.view(np.uint64), planes.view(np.uint64)
    for start in range(0, height, num_rows):
        for y in range(min(num_rows, height - start)):
            row = rows[top + start + y]
            copy_bytes(row[left : left + 3 * width], strip[y])
        _transpose_blocks(strip_words)
        _move_blocks(strip_words, columns_words)
        _resize_rows(pixels, 0, 0, across, mixed[:size])
        # Back again, each channel to its own part of the row.
        _transpose_blocks(mixed_words)
        for channel in range(3):
            source = channel * num_rows // 8
            target = channel * pitch // 8
            _move_blocks(
                mixed_words[:, source : source + num_rows // 8],
                planes_words[start:, target : target + pitch // 8],
            )
    return planes


@jit
def _multiple_of_8(number: int) -> int:
    """Round up to a multiple of 8."""
    return (number + 7) // 8 * 8


@jit
def copy_bytes(source: np.ndarray, target: np.ndarray) -> None:
    """Copy (n,) bytes to the beginning of (>= n,)."""
    for i in range(len(source)):
        target[i] = source[i]


@jit
def _transpose_blocks(words: np.ndarray) -> None:
    """Transpose every block of 8 x 8 bytes in (8 n, m) words, in place."""
    # Swap the off-diagonal corners of squares of 2 x 2 bytes, then of 4 x 4
    # and of 8 x 8.
    for y in range(0, len(words), 8):
        rows = words[y : y + 8]
        for i in range(0, 8, 2):
            _swap_corners(rows[i], rows[i + 1], 8, 0x00FF00FF00FF00FF)
        for i in range(0, 8, 4):
            _swap_corners(rows[i], rows[i + 2], 16, 0x0000FFFF0000FFFF)
            _swap_corners(rows[i + 1], rows[i + 3], 16, 0x0000FFFF0000FFFF)
        for i in range(4):
            _swap_corners(rows[i], rows[i + 4], 32, 0x00000000FFFFFFFF)


@jit
def _move_blocks(source: np.ndarray, target: np.ndarray) -> None:
    """Transpose the order of the blocks, from (8 n, m) words to (8 m, n).

    A block is a column of 8 words; what is inside stays as it is.
    """
    for x in range(source.shape[1]):
        for y in range(target.shape[1]):
            for i in range(8):
                target[8 * x + i, y] = source[8 * y + i, x]


@jit
def _swap_corners(
    upper: np.ndarray, lower: np.ndarray, bits: int, mask: int
) -> None:
    """Swap the high half of each part of `upper` with the low half below it.

    (m,) words each. A part has 2 * bits bits, and `mask` selects low halves.
    """
    shift, low_half = np.uint64(bits), np.uint64(mask)
    for x in range(len(upper)):
        change = ((upper[x] >> shift) ^ lower[x]) & low_half
        upper[x] ^= change << shift
        lower[x] ^= change


@jit
def _resize_rows(
    rows: np.ndarray, top: int, left: int, down: tuple, out: np.ndarray
) -> None:
    """Fill out, (size, n), with weighted sums of rows[top:, left:left + n]."""
    first, count, weights = down
    right = left + out.shape[1]
    sums = np.empty(out.shape[1], np.int32)
    for i in range(len(out)):
        y = top + first[i]
        a = rows[y, left:right]
        # Nearly all sums have at most four terms. Adding those up at once
        # keeps them in registers.
        if count[i] == 1:
            copy_bytes(a, out[i])
        elif count[i] == 2:
            _mix_2(a, rows[y + 1, left:right], weights[i], out[i])
        elif count[i] == 3:
            _mix_3(
                a,
                rows[y + 1, left:right],
                rows[y + 2, left:right],
                weights[i],
                out[i],
            )
        elif count[i] == 4:
            _mix_4(
                a,
                rows[y + 1, left:right],
                rows[y + 2, left:right],
                rows[y + 3, left:right],
                weights[i],
                out[i],
            )
        else:
            sums[:] = 2**21
            for k in range(count[i]):
                _add(rows[y + k, left:right], weights[i, k], sums)
            _round(sums, out[i])


@jit
def _mix_2(
    a: np.ndarray, b: np.ndarray, weights: np.ndarray, out: np.ndarray
) -> None:
    """Fill out with the weighted sum of two rows, (n,) bytes each."""
    p, q = weights[0], weights[1]
    for x in range(len(out)):
        out[x] = _rounded(np.int32(a[x] * p + b[x] * q + 2**21))


@jit
def _mix_3(
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    weights: np.ndarray,
    out: np.ndarray,
) -> None:
    """Fill out with the weighted sum of three rows, (n,) bytes each."""
    p, q, r = weights[0], weights[1], weights[2]
    for x in range(len(out)):
        out[x] = _rounded(np.int32(a[x] * p + b[x] * q + c[x] * r + 2**21))


@jit
def _mix_4(
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    d: np.ndarray,
    weights: np.ndarray,
    out: np.ndarray,
) -> None:
    """Fill out with the weighted sum of four rows, (n,) bytes each."""
    p, q, r, s = weights[0], weights[1], weights[2], weights[3]
    for x in range(len(out)):
        out[x] = _rounded(
            np.int32(a[x] * p + b[x] * q + c[x] * r + d[x] * s + 2**21)
        )


@jit
def _add(row: np.ndarray, weight: int, sums: np.ndarray) -> None:
    """Add a row of (n,) bytes, weighted, to (n,) int32 sums."""
    for x in range(len(sums)):
        sums[x] = np.int32(sums[x] + row[x] * weight)


@jit
def _round(sums: np.ndarray, out: np.ndarray) -> None:
    """Fill out with the bytes of (n,) sums."""
    for x in range(len(sums)):
        out[x] = _rounded(sums[x])


@jit
def _rounded(total: np.int32) -> np.uint8:
    """Return the byte of a sum in units of 2 ** -22, to which .5 was added.

    It always fits into a byte: weights add up to 2 ** 22 within 1,000, and
    8,000 would do.
    """
    return np.uint8(total >> 22)
