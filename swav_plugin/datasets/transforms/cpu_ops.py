"""Pillow's operations as loops over bytes, compiled where numba is installed.

Every value equals that of torchvision's functional operations on images of
Pillow 13, rounding included: the tests compare each operation. A view is
planar, (3, S, S) uint8, and changed in place. S: side of a view; n, m: any
numbers.

numba makes sums and products of integers 64 bits wide. Inner loops cast them
back to 32 at once, wherever they are: otherwise they take twice as long. Rows
are passed to functions of their own so that LLVM sees plain arrays.
"""

import math

import numpy as np

from swav_plugin.compat.jit import jit

# These are compiled in, and numba looks at the date of this file only: after
# a change of the columns, change this file as well.
from .view_params import (
    AMOUNT,
    BRIGHTNESS,
    CONTRAST,
    FLIP,
    GREY,
    HEIGHT,
    HUE,
    LEFT,
    ORDER,
    SATURATION,
    SIGMA,
    SIZE,
    TOP,
    WIDTH,
)


@jit
def cut_views(img: np.ndarray, params: np.ndarray, out: np.ndarray) -> None:
    """Cut all views of an image by their rows.

    Args:
        img: (H, W, 3) uint8 RGB, contiguous.
        params: (V, NUM_PARAMS), of `draw_view_params`.
        out: Flat uint8 memory for the views, (3, S, S) one after the other.
    """
    end = 0
    for row in params:
        size = int(row[SIZE])
        start, end = end, end + 3 * size * size
        view = out[start:end].reshape(3, size, size)
        crop_and_resize(
            img,
            int(row[TOP]),
            int(row[LEFT]),
            int(row[HEIGHT]),
            int(row[WIDTH]),
            row[FLIP] != 0,
            view,
        )
        for place in range(ORDER, ORDER + 4):
            component = row[place]
            if component == BRIGHTNESS:
                adjust_brightness(view, row[AMOUNT + BRIGHTNESS])
            elif component == CONTRAST:
                adjust_contrast(view, row[AMOUNT + CONTRAST])
            elif component == SATURATION:
                adjust_saturation(view, row[AMOUNT + SATURATION])
            elif component == HUE:
                adjust_hue(view, row[AMOUNT + HUE])
        if row[GREY] != 0:
            make_grey(view)
        if row[SIGMA] > 0:
            gaussian_blur(view, row[SIGMA])


# Resizing: each direction is a weighted sum of whole rows, for the horizontal
# one after transposing. Lines are filled up to a multiple of 8 bytes, since
# 8 x 8 bytes are transposed at a time.

_STRIP = 64  # rows that are resized horizontally at a time; stays in the cache


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
    """Cut a box out of (H, W, 3), resize it to `view` and maybe mirror it.

    Source: Pillow's resize(), bilinear with antialiasing.
    """
    size = view.shape[1]
    rows = img.reshape(len(img), 3 * img.shape[1])
    across = resize_weights(width, size, is_flipped)
    down = resize_weights(height, size, False)
    # Pillow's rule since 13. The order counts because values are rounded to
    # bytes in between.
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
            _copy(planes[y, start : start + size], view[channel, y])


@jit
def resize_weights(old: int, new: int, is_flipped: bool) -> tuple:
    """Say how each of `new` pixels in a line is mixed from `old` ones.

    Returns:
        For each new pixel the first old one, (new,); how many, (new,); and
        with which weights, (new, most) int32 in units of 2 ** -22.
    """
    scale = old / new
    support = max(scale, 1.0)
    first = np.empty(new, np.int64)
    count = np.empty(new, np.int64)
    weights = np.zeros((new, 2 * math.ceil(support) + 1), np.int32)
    triangle = np.empty(weights.shape[1])
    for i in range(new):
        centre = (i + 0.5) * scale
        start = max(0, int(centre - support + 0.5))
        stop = min(old, int(centre + support + 0.5))
        total = 0.0
        for k in range(stop - start):
            distance = (start + k - centre + 0.5) * (1.0 / support)
            triangle[k] = max(0.0, 1.0 - abs(distance))
            total += triangle[k]
        place = new - 1 - i if is_flipped else i
        first[place] = start
        count[place] = 1
        for k in range(stop - start):
            weights[place, k] = int(0.5 + triangle[k] / total * 2**22)
            if weights[place, k] > 0:
                count[place] = k + 1
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
    """Resize (height, 3 width) bytes at rows[top, left] to planes.

    Returns:
        (>= height, 3 m): a line of each channel, filled up to m >= S.
    """
    size = len(across[0])
    pitch = _multiple_of_8(size)
    planes = np.empty((height + _STRIP, 3 * pitch), np.uint8)
    strip = np.zeros((_STRIP, _multiple_of_8(3 * width)), np.uint8)
    columns = np.empty((strip.shape[1], _STRIP), np.uint8)
    pixels = columns[: 3 * width].reshape(width, 3 * _STRIP)
    mixed = np.zeros((pitch, 3 * _STRIP), np.uint8)
    strip_words, columns_words = strip.view(np.uint64), columns.view(np.uint64)
    mixed_words, planes_words = mixed.view(np.uint64), planes.view(np.uint64)
    for start in range(0, height, _STRIP):
        for y in range(min(_STRIP, height - start)):
            row = rows[top + start + y]
            _copy(row[left : left + 3 * width], strip[y])
        _transpose_blocks(strip_words)
        _move_blocks(strip_words, columns_words)
        _resize_rows(pixels, 0, 0, across, mixed[:size])
        _transpose_blocks(mixed_words)
        for channel in range(3):
            source = channel * _STRIP // 8
            target = channel * pitch // 8
            _move_blocks(
                mixed_words[:, source : source + _STRIP // 8],
                planes_words[start:, target : target + pitch // 8],
            )
    return planes


@jit
def _multiple_of_8(number: int) -> int:
    """Round up."""
    return (number + 7) // 8 * 8


@jit
def _copy(source: np.ndarray, target: np.ndarray) -> None:
    """Copy (n,) bytes to the beginning of (>= n,)."""
    for i in range(len(source)):
        target[i] = source[i]


@jit
def _transpose_blocks(words: np.ndarray) -> None:
    """Transpose every 8 x 8 bytes of (8 n, m) uint64 words, in place."""
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
    """Move blocks of 8 words, which are columns, from (8 n, m) to (8 m, n)."""
    for x in range(source.shape[1]):
        for y in range(target.shape[1]):
            for i in range(8):
                target[8 * x + i, y] = source[8 * y + i, x]


@jit
def _swap_corners(
    upper: np.ndarray, lower: np.ndarray, bits: int, mask: int
) -> None:
    """Swap the odd parts of (m,) words with the even parts below them.

    In squares of two by two parts of 1, 2 or 4 bytes that is transposing.
    """
    shift, even = np.uint64(bits), np.uint64(mask)
    for x in range(len(upper)):
        change = ((upper[x] >> shift) ^ lower[x]) & even
        upper[x] ^= change << shift
        lower[x] ^= change


@jit
def _resize_rows(
    rows: np.ndarray, top: int, left: int, down: tuple, out: np.ndarray
) -> None:
    """Fill out, (S, n), with weighted sums of rows[top + y, left:left + n]."""
    first, count, weights = down
    right = left + out.shape[1]
    sums = np.empty(out.shape[1], np.int32)
    for i in range(len(out)):
        y = top + first[i]
        a = rows[y, left:right]
        if count[i] == 1:
            _copy(a, out[i])
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
    """Give the byte of a sum in units of 2 ** -22, to which .5 was added.

    It is one: weights add up to 2 ** 22 within 1,000, and 8,000 would do.
    """
    return np.uint8(total >> 22)


# Colour, in float32 as Pillow has it.

_ZERO, _HALF, _ONE, _TWO, _FOUR, _SIX, _MAX = np.array(
    [0, 0.5, 1, 2, 4, 6, 255], np.float32
)
_RED, _GREEN, _BLUE = np.array([19595, 38470, 7471], np.float32)  # of 2 ** 16


@jit
def adjust_brightness(view: np.ndarray, factor: float) -> None:
    """Move all values away from black (factor > 1) or towards it."""
    _blend(view.reshape(view.size), _ZERO, np.float32(factor))


@jit
def adjust_contrast(view: np.ndarray, factor: float) -> None:
    """Move all values away from the mean luma or towards it."""
    total = 0
    for y in range(view.shape[1]):
        total += _sum_of_luma(view[0, y], view[1, y], view[2, y])
    mean = np.float32(int(total / view[0].size + 0.5))
    _blend(view.reshape(view.size), mean, np.float32(factor))


@jit
def adjust_saturation(view: np.ndarray, factor: float) -> None:
    """Move every pixel away from its own grey or towards it."""
    red, green, blue = _channels(view)
    _saturate(red, green, blue, np.float32(factor))


@jit
def adjust_hue(view: np.ndarray, turns: float) -> None:
    """Turn the colour circle, which has 255 steps in Pillow's HSV."""
    red, green, blue = _channels(view)
    _turn(red, green, blue, np.float32(int(turns * 255) % 256))


@jit
def make_grey(view: np.ndarray) -> None:
    """Set all three channels to the luma."""
    red, green, blue = _channels(view)
    _set_to_luma(red, green, blue)


@jit
def _channels(view: np.ndarray) -> tuple:
    """Give the three channels, (S * S,) each."""
    flat = view.reshape(3, view.shape[1] * view.shape[2])
    return flat[0], flat[1], flat[2]


@jit
def _blend(values: np.ndarray, other: np.float32, factor: np.float32) -> None:
    """Move (n,) bytes away from another value or towards it."""
    for i in range(len(values)):
        values[i] = _clipped(other + factor * (np.float32(values[i]) - other))


@jit
def _sum_of_luma(red: np.ndarray, green: np.ndarray, blue: np.ndarray) -> int:
    """Add up the luma of (n,) pixels, n < 2 ** 23."""
    total = np.int32(0)
    for i in range(len(red)):
        total = np.int32(total + _luma(red[i], green[i], blue[i]))
    return total


@jit
def _saturate(
    red: np.ndarray, green: np.ndarray, blue: np.ndarray, factor: np.float32
) -> None:
    """Move (n,) pixels away from their own grey or towards it."""
    for i in range(len(red)):
        grey = np.float32(_luma(red[i], green[i], blue[i]))
        red[i] = _clipped(grey + factor * (np.float32(red[i]) - grey))
        green[i] = _clipped(grey + factor * (np.float32(green[i]) - grey))
        blue[i] = _clipped(grey + factor * (np.float32(blue[i]) - grey))


@jit
def _set_to_luma(red: np.ndarray, green: np.ndarray, blue: np.ndarray) -> None:
    """Take the colour out of (n,) pixels."""
    for i in range(len(red)):
        grey = np.uint8(_luma(red[i], green[i], blue[i]))
        red[i] = grey
        green[i] = grey
        blue[i] = grey


@jit
def _luma(red: np.uint8, green: np.uint8, blue: np.uint8) -> np.int32:
    """Give the luma of ITU-R 601-2, rounded; no sum exceeds 2 ** 24."""
    total = (
        np.float32(red) * _RED
        + np.float32(green) * _GREEN
        + np.float32(blue) * _BLUE
    )
    return np.int32((total + np.float32(2**15)) * np.float32(2**-16))


@jit
def _clipped(value: np.float32) -> np.uint8:
    """Cut a value to a byte."""
    return np.uint8(np.int32(min(max(value, _ZERO), _MAX)))


@jit
def _turn(
    red: np.ndarray, green: np.ndarray, blue: np.ndarray, steps: np.float32
) -> None:
    """Turn the hue of (n,) pixels by 0 to 255 steps."""
    for i in range(len(red)):
        hue, saturation, value = _to_hsv(
            np.float32(red[i]), np.float32(green[i]), np.float32(blue[i])
        )
        hue += steps
        hue = hue - np.float32(256) if hue > _MAX else hue
        red[i] = _from_hsv(hue, saturation, value, np.float32(5 * 255))
        green[i] = _from_hsv(hue, saturation, value, np.float32(3 * 255))
        blue[i] = _from_hsv(hue, saturation, value, np.float32(255))


@jit
def _to_hsv(
    red: np.float32, green: np.float32, blue: np.float32
) -> tuple[np.float32, np.float32, np.float32]:
    """Give hue, saturation and value as whole numbers up to 255."""
    value = max(max(red, green), blue)
    low = min(min(red, green), blue)
    middle = red + green + blue - value - low
    chroma = value - low
    # Which channel is the highest, and which comes next on the circle. No
    # branches, so that eight pixels are done at a time; a grey pixel gets
    # some hue, which does not show.
    is_red, is_green = red == value, green == value
    sector = _ZERO if is_red else (_TWO if is_green else _FOUR)
    following = blue if is_red else (red if is_green else green)
    share = (value - middle) / max(chroma, _ONE)
    sixths = (
        sector + _ONE - share if following == low else (sector - _ONE + share)
    )
    turns = sixths / _SIX
    turns = turns + _ONE if turns < _ZERO else turns
    saturation = chroma / max(value, _ONE)
    return (
        np.float32(np.int32(turns * _MAX)),
        np.float32(np.int32(saturation * _MAX)),
        value,
    )


@jit
def _from_hsv(
    hue: np.float32,
    saturation: np.float32,
    value: np.float32,
    offset: np.float32,
) -> np.uint8:
    """Give a channel: red, green and blue have offsets 5, 3 and 1 sixth."""
    step = hue * _SIX + offset  # of 6 * 255 on the circle
    step = step - np.float32(6 * 255) if step >= 6 * _MAX else step
    share = max(_ZERO, min(_MAX, min(step, np.float32(4 * 255) - step)))
    rest = np.float32(255 * 255) - saturation * share
    return np.uint8(
        np.int32(value * rest * np.float32(1 / (255 * 255)) + _HALF)
    )


# Blurring: three box filters in each direction. A box of fractional radius
# gives its two ends less weight.


@jit
def gaussian_blur(view: np.ndarray, sigma: float) -> None:
    """Blur with a standard deviation in pixels, > 0.

    Source: Gwosdek et al., Theoretical foundations of Gaussian convolution by
    extended box filtering, 2011, as Pillow has it.
    """
    size = view.shape[1]
    radius, inner, outer = box_weights(sigma)
    margin = radius + 1
    side = size + 2 * margin
    # A border of repeated edges makes each pass one loop over all pixels.
    a = np.zeros((side, side), np.uint8)
    b = np.zeros((side, side), np.uint8)
    for channel in range(3):
        for y in range(size):
            _copy(view[channel, y], a[margin + y, margin:])
        for _ in range(3):
            for y in range(margin, margin + size):
                _repeat_ends(a[y], margin)
            _box_filter(
                a.reshape(side * side),
                b.reshape(side * side),
                1,
                radius,
                inner,
                outer,
            )
            a, b = b, a
        for _ in range(3):
            for y in range(margin):
                _copy(a[margin], a[y])
                _copy(a[margin + size - 1], a[margin + size + y])
            _box_filter(
                a.reshape(side * side),
                b.reshape(side * side),
                side,
                radius,
                inner,
                outer,
            )
            a, b = b, a
        for y in range(size):
            _copy(a[margin + y, margin : margin + size], view[channel, y])


@jit
def box_weights(sigma: float) -> tuple:
    """Give the box whose threefold use has a standard deviation in pixels.

    Returns:
        Whole pixels on each side of the centre, the weight of each pixel
        within, and of the next one on each side; in units of 2 ** -24.
    """
    one, two, three = np.float32(1), np.float32(2), np.float32(3)
    variance = np.float32(sigma) * np.float32(sigma) / three
    length = np.float32(math.sqrt(12.0 * variance + 1.0))
    whole = np.float32(math.floor((length - 1.0) / 2.0))
    part = (two * whole + one) * (whole * (whole + one) - three * variance)
    part /= _SIX * (variance - (whole + one) * (whole + one))
    radius = int(whole + part)
    inner = int(np.float32(2**24) / (two * (whole + part) + one))
    outer = (2**24 - (2 * radius + 1) * inner) // 2
    return radius, np.uint32(inner), np.uint32(outer)


@jit
def _repeat_ends(row: np.ndarray, margin: int) -> None:
    """Fill `margin` values at each end of (n,) with their neighbour."""
    last = len(row) - 1 - margin
    for x in range(margin):
        row[x] = row[margin]
        row[last + 1 + x] = row[last]


@jit
def _box_filter(
    source: np.ndarray,
    target: np.ndarray,
    step: int,
    radius: int,
    inner: np.uint32,
    outer: np.uint32,
) -> None:
    """Filter (n,) bytes whose neighbours are `step` apart.

    Values within (radius + 1) * step of an end of target stay as they are.
    """
    num = len(source) - 2 * (radius + 1) * step
    # Neighbour k of the values, from the left end of the box to the right.
    first, last = source[:num], source[len(source) - num :]
    out = target[(radius + 1) * step :][:num]
    if radius == 0:
        _box_of_1(first, source[step:], last, inner, outer, out)
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
    else:
        sums = np.zeros(num, np.uint32)
        for k in range(1, 2 * radius + 2):
            _add_bytes(source[k * step :], sums)
        _box_of_sums(first, sums, last, inner, outer, out)


@jit
def _box_of_1(
    first: np.ndarray,
    middle: np.ndarray,
    last: np.ndarray,
    inner: np.uint32,
    outer: np.uint32,
    out: np.ndarray,
) -> None:
    """Filter (n,) bytes with radius 0."""
    for x in range(len(out)):
        ends = np.uint32(first[x]) + last[x]
        out[x] = _top_byte(np.uint32(middle[x] * inner + ends * outer))


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
    """Filter (n,) bytes, given the (n,) sums of their boxes."""
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
