"""Draw what happens to each view of an image, as a row of parameters.

The rows of a sample are drawn at once from the streams of its key, see
`streams`. Cutting the views, on the CPU or on the device, is then
deterministic. V: views.
"""

import math
from typing import NamedTuple

import numpy as np

from swav_plugin.compat import jit as compat_jit
from swav_plugin.compat.jit import jit

from ..sampler import SampleKey
from .streams import FIRST_VIEW, Streams, fill_stream, kind_number

# Columns of a row. TOP to WIDTH are in pixels of the image, SIZE and SIGMA in
# pixels of the view; SIGMA is 0 if there is no blur.
SIZE, TOP, LEFT, HEIGHT, WIDTH, FLIP = range(6)
# Columns ORDER to ORDER + 3: the color adjustments in the order in which they
# are made, then NOTHING.
ORDER = 6
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
NOTHING = -1
ADJUSTMENTS = ('brightness', 'contrast', 'saturation', 'hue')
# Column AMOUNT + adjustment: a factor; for HUE, turns of the color wheel.
AMOUNT = 10
GRAYSCALE, SIGMA = 14, 15
NUM_PARAMS = 16

# How many numbers each stream gives, after number 0. A box has ten tries, each
# with an area, an aspect ratio, a top and a left. An adjustment has an amount
# and a rank: lower ranks come first.
NUM_TRIES = 10
NUM_FOR_BOX = 4 * NUM_TRIES
NUM_FOR_ADJUSTMENTS = 2 * len(ADJUSTMENTS)

# The streams of a view with their lengths. They are named after the separate
# transforms and so give the same numbers.
_STREAMS = (
    ('RandomResizedCrop', 1 + NUM_FOR_BOX),
    ('RandomFlip', 1),
    ('ColorJitter', 1 + NUM_FOR_ADJUSTMENTS),
    ('RandomGrayscale', 1),
    ('GaussianBlur', 2),
)
_KINDS = np.array([kind_number(name) for name, _ in _STREAMS])
_ENDS = np.cumsum([num for _, num in _STREAMS])
NUM_NUMBERS = int(_ENDS[-1])  # that a view is drawn from
_CROP, _FLIP, _JITTER, _GRAYSCALE, _BLUR = (
    int(end - num) for end, (_, num) in zip(_ENDS, _STREAMS)
)


class Recipe(NamedTuple):
    """The distributions that rows are drawn from, which are torchvision's.

    See `RandomResizedCrop`, `RandomFlip`, `ColorJitter`, `RandomGrayscale` and
    `GaussianBlur` for what the numbers mean.

    Source: SwAV (arXiv:2006.09882), appendix A.
    """

    sizes: np.ndarray  # (V,) int64, of each view in pixels
    crop_ratio_ranges: np.ndarray  # (V, 2)
    aspect_ratio_range: np.ndarray  # (2,) width / height
    flip_prob: float
    amount_ranges: np.ndarray  # (4, 2) of each adjustment; equal ends: never
    jitter_prob: float
    grayscale_prob: float
    sigma_range: np.ndarray  # (2,) pixels of the view
    blur_prob: float


def draw_view_params(
    key: SampleKey, height: int, width: int, recipe: Recipe
) -> np.ndarray:
    """Draw (V, NUM_PARAMS) float64 rows for an image of this shape.

    Row v depends only on the key and v, not on the number of views or on what
    happens to the others.
    """
    num_views = len(recipe.sizes)
    params = np.empty((num_views, NUM_PARAMS))
    numbers = np.empty((num_views, NUM_NUMBERS))
    if compat_jit.NO_NUMBA is None:
        _fill_numbers(numbers, key.seed, key.epoch, int(key))
    else:
        streams = Streams(key)
        for view in range(num_views):
            streams.start_view(FIRST_VIEW + view)
            for (name, num), end in zip(_STREAMS, _ENDS):
                numbers[view, end - num : end] = streams.next(name).random(num)
    _fill_rows(params, numbers, height, width, recipe)
    return params


@jit
def fill_view_params(
    params: np.ndarray,
    numbers: np.ndarray,
    key: np.ndarray,
    height: int,
    width: int,
    recipe: Recipe,
) -> None:
    """Fill the rows of `draw_view_params`, where numba is installed.

    Args:
        params: (V, NUM_PARAMS) float64, filled.
        numbers: (V, NUM_NUMBERS) float64, overwritten.
        key: (3,) int64: index, epoch, seed.
        height: Height of the image.
        width: Width of the image.
        recipe: The distributions.
    """
    _fill_numbers(numbers, key[2], key[1], key[0])
    _fill_rows(params, numbers, height, width, recipe)


def choose_box(
    numbers: np.ndarray,
    height: int,
    width: int,
    crop_ratio_range: np.ndarray,
    aspect_ratio_range: np.ndarray,
) -> tuple[int, int, int, int]:
    """Turn (NUM_FOR_BOX,) numbers in [0, 1) into top, left, height, width.

    `RandomResizedCrop` calls this and documents the distribution.
    """
    least, largest = crop_ratio_range
    low, high = aspect_ratio_range
    for attempt in range(NUM_TRIES):
        share, log_aspect, top, left = numbers[4 * attempt : 4 * attempt + 4]
        area = height * width * (least + (largest - least) * share)
        aspect = low * math.exp(log_aspect * math.log(high / low))
        crop_width = round(math.sqrt(area * aspect))
        crop_height = round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            return (
                math.floor(top * (height - crop_height + 1)),
                math.floor(left * (width - crop_width + 1)),
                crop_height,
                crop_width,
            )
    # The largest central box with an allowed aspect ratio, but at least one
    # pixel, however thin the image is.
    aspect = min(max(width / height, low), high)
    crop_width = max(1, min(width, round(height * aspect)))
    crop_height = max(1, min(height, round(width / aspect)))
    return (
        (height - crop_height) // 2,
        (width - crop_width) // 2,
        crop_height,
        crop_width,
    )


def choose_adjustments(
    numbers: np.ndarray,
    amount_ranges: np.ndarray,
    order: np.ndarray,
    amounts: np.ndarray,
) -> None:
    """Turn (NUM_FOR_ADJUSTMENTS,) numbers in [0, 1) into color adjustments.

    Fills the (4,) columns ORDER and the (4,) columns AMOUNT of a row.
    `ColorJitter` calls this and documents the distribution.
    """
    order[:] = NOTHING
    for i in range(4):
        low, high = amount_ranges[i]
        amounts[i] = low + (high - low) * numbers[2 * i]
        if low == high:
            continue
        rank, num_before = numbers[2 * i + 1], 0
        for k in range(4):
            other = numbers[2 * k + 1]
            is_used = amount_ranges[k, 0] < amount_ranges[k, 1]
            if is_used and (other < rank or (other == rank and k < i)):
                num_before += 1
        order[num_before] = i


# Compiled for MultiCrop. The separate transforms call the plain functions, or
# every worker would have to compile them.
_choose_box = jit(choose_box)
_choose_adjustments = jit(choose_adjustments)


@jit
def _fill_numbers(
    numbers: np.ndarray, seed: int, epoch: int, index: int
) -> None:
    """Fill (V, n) with the numbers in [0, 1) that the views are drawn from."""
    for view in range(len(numbers)):
        start = 0
        for kind, end in zip(_KINDS, _ENDS):
            fill_stream(
                numbers[view, start:end],
                seed,
                epoch,
                index,
                FIRST_VIEW + view,
                kind,
            )
            start = end


@jit
def _fill_rows(
    params: np.ndarray,
    numbers: np.ndarray,
    height: int,
    width: int,
    recipe: Recipe,
) -> None:
    """Turn (V, n) numbers in [0, 1) into (V, NUM_PARAMS) rows."""
    for view in range(len(params)):
        row, drawn = params[view], numbers[view]
        row[SIZE] = recipe.sizes[view]
        row[TOP], row[LEFT], row[HEIGHT], row[WIDTH] = _choose_box(
            drawn[_CROP + 1 : _FLIP],
            height,
            width,
            recipe.crop_ratio_ranges[view],
            recipe.aspect_ratio_range,
        )
        row[FLIP] = drawn[_FLIP] < recipe.flip_prob
        _choose_adjustments(
            drawn[_JITTER + 1 : _GRAYSCALE],
            recipe.amount_ranges,
            row[ORDER : ORDER + 4],
            row[AMOUNT : AMOUNT + 4],
        )
        if drawn[_JITTER] >= recipe.jitter_prob:
            row[ORDER : ORDER + 4] = NOTHING
        row[GRAYSCALE] = drawn[_GRAYSCALE] < recipe.grayscale_prob
        row[SIGMA] = 0.0
        if drawn[_BLUR] < recipe.blur_prob:
            low, high = recipe.sigma_range
            row[SIGMA] = low + (high - low) * drawn[_BLUR + 1]
