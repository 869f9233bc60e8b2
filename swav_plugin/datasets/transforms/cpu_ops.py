"""Cut views on the CPU in one compiled loop (numba): `MultiCrop`'s fast path.

The operations of `pillow_ops` under the same names, as loops over bytes.
`pillow_ops` is the reference, and `device_ops` the third implementation.
Promised: the bytes of `pillow_ops` at any argument.

A view is planar here, (3, size, size) uint8, and changed in place. Flipping
is a part of `crop_and_resize`, where it costs nothing. V: views.

Three rules make these loops fast, here and in the files they come from:

- numba makes sums and products of integers 64 bits wide. Inner loops cast
  them back to 32 bits at once, or they take twice as long.
- Constants are float32: with one Python float, numba computes in float64.
- Rows are passed to small functions of their own, so that LLVM sees plain
  arrays that do not overlap, and vectorizes the loop.
"""

import numpy as np

from swav_plugin.compat.jit import jit

from .cpu_blur import gaussian_blur
from .cpu_color import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    to_grayscale,
)
from .cpu_resize import crop_and_resize
from .view_params import (
    AMOUNT,
    BRIGHTNESS,
    CONTRAST,
    FLIP,
    GRAYSCALE,
    HEIGHT,
    HUE,
    LEFT,
    NUM_NUMBERS,
    NUM_PARAMS,
    ORDER,
    SATURATION,
    SIGMA,
    SIZE,
    TOP,
    WIDTH,
    Recipe,
    fill_view_params,
)

__all__ = [
    'adjust_brightness',
    'adjust_contrast',
    'adjust_hue',
    'adjust_saturation',
    'crop_and_resize',
    'cut_batch',
    'cut_views',
    'gaussian_blur',
    'jitter_colors',
    'to_grayscale',
]


def cut_views(img: np.ndarray, params: np.ndarray) -> list[np.ndarray]:
    """Cut V views out of an image.

    Args:
        img: (H, W, 3) uint8 RGB.
        params: (V, NUM_PARAMS), see `view_params`.

    Returns:
        V arrays (size, size, 3). They share no memory with the image, and
        are planar: transposing one to (3, size, size) needs no copy.
    """
    img = read_only(np.ascontiguousarray(img))
    sizes = params[:, SIZE].astype(int)
    ends = np.cumsum(3 * sizes**2)
    memory = np.empty(ends[-1], np.uint8)
    _cut_views(img, params, memory)
    return [
        view.reshape(3, size, size).transpose(1, 2, 0)
        for view, size in zip(np.split(memory, ends[:-1]), sizes)
    ]


def read_only(array: np.ndarray) -> np.ndarray:
    """Return a view that cannot be written to.

    numba would compile everything again for an array of another type.
    """
    array = array.view()
    array.flags.writeable = False
    return array


@jit
def _cut_views(img: np.ndarray, params: np.ndarray, out: np.ndarray) -> None:
    """Fill flat memory with the views (3, size, size), one after another."""
    end = 0
    for row in params:
        size = int(row[SIZE])
        start, end = end, end + 3 * size * size
        _cut_view(img, row, out[start:end].reshape(3, size, size))


@jit
def _cut_view(img: np.ndarray, row: np.ndarray, view: np.ndarray) -> None:
    """Cut one view as its row of parameters says."""
    crop_and_resize(
        img,
        int(row[TOP]),
        int(row[LEFT]),
        int(row[HEIGHT]),
        int(row[WIDTH]),
        row[FLIP] != 0,
        view,
    )
    jitter_colors(view, row)
    if row[GRAYSCALE] != 0:
        to_grayscale(view)
    if row[SIGMA] > 0:
        gaussian_blur(view, row[SIGMA])


@jit
def cut_batch(
    memory: np.ndarray,
    spans: np.ndarray,
    keys: np.ndarray,
    recipe: Recipe,
    out: np.ndarray,
) -> None:
    """Draw the parameters of B images and cut their views.

    Args:
        memory: (n,) uint8, read-only: images (H, W, 3), somewhere in it.
        spans: (B, 3) int64: where each image ends, its height and width.
        keys: (B, 3) int64: index, epoch and seed of each.
        recipe: What is drawn, with V views.
        out: Flat uint8, filled with (B, 3, size, size) for each view.
    """
    num_images, num_views = len(keys), len(recipe.sizes)
    params = np.empty((num_views, NUM_PARAMS))
    numbers = np.empty((num_views, NUM_NUMBERS))
    for i in range(num_images):
        end, height, width = spans[i]
        img = memory[end - 3 * height * width : end]
        img = img.reshape(height, width, 3)
        fill_view_params(params, numbers, keys[i], height, width, recipe)
        first = 0
        for view in range(num_views):
            size = recipe.sizes[view]
            num = 3 * size * size
            start = first + i * num
            first += num_images * num
            _cut_view(
                img,
                params[view],
                out[start : start + num].reshape(3, size, size),
            )


@jit
def jitter_colors(view: np.ndarray, row: np.ndarray) -> None:
    """Make the color adjustments of a row of parameters, in its order."""
    for column in range(ORDER, ORDER + 4):
        adjustment = row[column]
        if adjustment == BRIGHTNESS:
            adjust_brightness(view, row[AMOUNT + BRIGHTNESS])
        elif adjustment == CONTRAST:
            adjust_contrast(view, row[AMOUNT + CONTRAST])
        elif adjustment == SATURATION:
            adjust_saturation(view, row[AMOUNT + SATURATION])
        elif adjustment == HUE:
            adjust_hue(view, row[AMOUNT + HUE])
