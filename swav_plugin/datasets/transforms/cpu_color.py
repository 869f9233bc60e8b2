"""`cpu_ops`: colors, in float32 as Pillow computes them.

A view is (3, size, size) uint8 and changed in place. n: pixels in a view or
in a row of it.
"""

import numpy as np

from swav_plugin.compat.jit import jit

_ZERO, _HALF, _ONE, _TWO, _FOUR, _SIX, _MAX = np.array(
    [0, 0.5, 1, 2, 4, 6, 255], np.float32
)
# Weights of ITU-R 601-2 in units of 2 ** -16: Pillow's numbers.
_RED, _GREEN, _BLUE = np.array([19595, 38470, 7471], np.float32)


@jit
def adjust_brightness(view: np.ndarray, factor: float) -> None:
    """Move all values away from black (factor > 1) or toward it."""
    _blend(view.reshape(view.size), _ZERO, np.float32(factor))


@jit
def adjust_contrast(view: np.ndarray, factor: float) -> None:
    """Move all values away from the mean luma (factor > 1) or toward it."""
    total = 0
    for y in range(view.shape[1]):
        total += _sum_of_luma(view[0, y], view[1, y], view[2, y])
    mean = np.float32(int(total / view[0].size + 0.5))
    _blend(view.reshape(view.size), mean, np.float32(factor))


@jit
def adjust_saturation(view: np.ndarray, factor: float) -> None:
    """Move every pixel away from its own luma (factor > 1) or toward it."""
    red, green, blue = _channels(view)
    _saturate(red, green, blue, np.float32(factor))


@jit
def adjust_hue(view: np.ndarray, turns: float) -> None:
    """Turn the color wheel, which has 256 steps in Pillow's HSV.

    torchvision takes one turn for 255 of them.
    """
    red, green, blue = _channels(view)
    _turn(red, green, blue, np.float32(int(turns * 255) % 256))


@jit
def to_grayscale(view: np.ndarray) -> None:
    """Set all three channels to the luma."""
    red, green, blue = _channels(view)
    _set_to_luma(red, green, blue)


@jit
def _channels(view: np.ndarray) -> tuple:
    """Return the three channels, (n,) each."""
    flat = view.reshape(3, view.shape[1] * view.shape[2])
    return flat[0], flat[1], flat[2]


@jit
def _blend(values: np.ndarray, other: np.float32, factor: np.float32) -> None:
    """Move (n,) bytes away from another value (factor > 1) or toward it."""
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
    """Move (n,) pixels away from their own luma or toward it."""
    for i in range(len(red)):
        luma = np.float32(_luma(red[i], green[i], blue[i]))
        red[i] = _clipped(luma + factor * (np.float32(red[i]) - luma))
        green[i] = _clipped(luma + factor * (np.float32(green[i]) - luma))
        blue[i] = _clipped(luma + factor * (np.float32(blue[i]) - luma))


@jit
def _set_to_luma(red: np.ndarray, green: np.ndarray, blue: np.ndarray) -> None:
    """Take the color out of (n,) pixels."""
    for i in range(len(red)):
        luma = np.uint8(_luma(red[i], green[i], blue[i]))
        red[i] = luma
        green[i] = luma
        blue[i] = luma


@jit
def _luma(red: np.uint8, green: np.uint8, blue: np.uint8) -> np.int32:
    """Return the luma of ITU-R 601-2, rounded."""
    # Exact in float32: whole numbers below 2 ** 24.
    total = (
        np.float32(red) * _RED
        + np.float32(green) * _GREEN
        + np.float32(blue) * _BLUE
    )
    return np.int32((total + np.float32(2**15)) * np.float32(2**-16))


@jit
def _clipped(value: np.float32) -> np.uint8:
    """Clip a value to a byte, and cut off its fraction."""
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
    """Return hue, saturation and value as whole numbers up to 255."""
    value = max(max(red, green), blue)
    low = min(min(red, green), blue)
    middle = red + green + blue - value - low
    chroma = value - low
    # Which channel is the largest, and which one follows it on the circle.
    # Written without branches, so that eight pixels are computed at a time. A
    # gray pixel gets some hue, which does not show.
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
    """Return one channel: red, green and blue have offsets 5, 3 and 1 sixth.

    In steps of which 255 are a sixth of the circle.
    """
    step = hue * _SIX + offset
    step = step - np.float32(6 * 255) if step >= 6 * _MAX else step
    share = max(_ZERO, min(_MAX, min(step, np.float32(4 * 255) - step)))
    rest = np.float32(255 * 255) - saturation * share
    return np.uint8(
        np.int32(value * rest * np.float32(1 / (255 * 255)) + _HALF)
    )
