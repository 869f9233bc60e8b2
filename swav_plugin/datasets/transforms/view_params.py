"""What happens to each view of an image, as a row of numbers. V: views.

The rows of a sample are drawn at once, from numbers that its key gives.
Cutting the views by them, on the CPU or on the device, leaves no more to
chance.
"""

import math
from typing import NamedTuple

import numpy as np

from swav_plugin.compat.jit import jit

# Columns of a row. TOP to WIDTH are pixels of the image, SIZE and SIGMA of
# the view; SIGMA is 0 where there is no blur.
SIZE, TOP, LEFT, HEIGHT, WIDTH, FLIP = range(6)
# Columns ORDER to ORDER + 3: the colour adjustments to make, one after
# another; NOTHING where there are no more.
ORDER = 6
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
NOTHING = -1
ADJUSTMENTS = ('brightness', 'contrast', 'saturation', 'hue')
# Column AMOUNT + adjustment: a factor, or for HUE turns of the colour circle.
AMOUNT = 10
GRAYSCALE, SIGMA = 14, 15
NUM_PARAMS = 16

# Ten tries for a box, each an area, an aspect, a top and a left; then flip,
# jitter, three for the order, four amounts, grayscale, blur and sigma.
_NUM_TRIES = 10
_NUM_UNIFORMS = 4 * _NUM_TRIES + 12


class Recipe(NamedTuple):
    """From which distributions the rows are drawn: those of torchvision.

    Source: SwAV (arXiv:2006.09882), appendix A; what the numbers mean is told
    by `RandomResizedCrop`, `RandomFlip`, `ColorJitter`, `RandomGrayscale` and
    `GaussianBlur`.
    """

    sizes: np.ndarray  # (V,) int64, side of each view in pixels
    crop_ratio_ranges: np.ndarray  # (V, 2)
    aspect_ratio_range: np.ndarray  # (2,) width / height
    flip_prob: float
    amount_ranges: np.ndarray  # (4, 2) of each adjustment; equal ends: never
    jitter_prob: float
    grayscale_prob: float
    sigma_range: np.ndarray  # (2,) pixels of the view
    blur_prob: float


def draw_view_params(
    rng: np.random.Generator, height: int, width: int, recipe: Recipe
) -> np.ndarray:
    """Draw (V, NUM_PARAMS) float64 rows for an image of this size.

    Row v depends on the state of `rng` and v, not on how many views there are
    nor on what happens to the others.
    """
    num_views = len(recipe.sizes)
    params = np.empty((num_views, NUM_PARAMS))
    uniforms = rng.random((num_views, _NUM_UNIFORMS))
    _fill(params, uniforms, height, width, recipe)
    return params


@jit
def _fill(
    params: np.ndarray,
    uniforms: np.ndarray,
    height: int,
    width: int,
    recipe: Recipe,
) -> None:
    """Turn (V, _NUM_UNIFORMS) numbers in [0, 1) into (V, NUM_PARAMS) rows."""
    for view in range(len(params)):
        row, numbers = params[view], uniforms[view]
        row[SIZE] = recipe.sizes[view]
        _fill_box(
            row,
            numbers,
            height,
            width,
            recipe.crop_ratio_ranges[view],
            recipe.aspect_ratio_range,
        )
        numbers = numbers[4 * _NUM_TRIES :]
        row[FLIP] = numbers[0] < recipe.flip_prob
        _fill_colours(
            row,
            numbers[2:9],
            numbers[1] < recipe.jitter_prob,
            recipe.amount_ranges,
        )
        row[GRAYSCALE] = numbers[9] < recipe.grayscale_prob
        row[SIGMA] = 0.0
        if numbers[10] < recipe.blur_prob:
            row[SIGMA] = _within(recipe.sigma_range, numbers[11])


@jit
def _fill_box(
    row: np.ndarray,
    numbers: np.ndarray,
    height: int,
    width: int,
    crop_ratio_range: np.ndarray,
    aspect_ratio_range: np.ndarray,
) -> None:
    """Set TOP, LEFT, HEIGHT and WIDTH as `RandomResizedCrop` does."""
    low, high = aspect_ratio_range
    for attempt in range(_NUM_TRIES):
        share, log_aspect, top, left = numbers[4 * attempt : 4 * attempt + 4]
        area = height * width * _within(crop_ratio_range, share)
        aspect = low * math.exp(log_aspect * math.log(high / low))
        crop_width = round(math.sqrt(area * aspect))
        crop_height = round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            row[TOP] = math.floor(top * (height - crop_height + 1))
            row[LEFT] = math.floor(left * (width - crop_width + 1))
            row[HEIGHT] = crop_height
            row[WIDTH] = crop_width
            return
    # The largest central box with an allowed aspect.
    aspect = min(max(width / height, low), high)
    crop_width = max(1, min(width, round(height * aspect)))
    crop_height = max(1, min(height, round(width / aspect)))
    row[TOP] = (height - crop_height) // 2
    row[LEFT] = (width - crop_width) // 2
    row[HEIGHT] = crop_height
    row[WIDTH] = crop_width


@jit
def _fill_colours(
    row: np.ndarray,
    numbers: np.ndarray,
    is_jittered: bool,
    amount_ranges: np.ndarray,
) -> None:
    """Set ORDER and AMOUNT of the four adjustments."""
    for adjustment in range(4):
        row[ORDER + adjustment] = NOTHING
        row[AMOUNT + adjustment] = _within(
            amount_ranges[adjustment], numbers[3 + adjustment]
        )
    order = np.arange(4)
    for last in range(3, 0, -1):  # Fisher-Yates
        other = math.floor(numbers[last - 1] * (last + 1))
        order[last], order[other] = order[other], order[last]
    column = ORDER
    for adjustment in order.flat:
        low, high = amount_ranges[adjustment]
        if is_jittered and low < high:
            row[column] = adjustment
            column += 1


@jit
def _within(bounds: np.ndarray, number: float) -> float:
    """Scale a number in [0, 1) to lie within (2,) bounds."""
    return bounds[0] + (bounds[1] - bounds[0]) * number
