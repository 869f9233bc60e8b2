"""Whole images on their way to the device that cuts their views. V: views."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from .encoded_image import EncodedImage
from .loading import read_rgb
from .view_params import HEIGHT, LEFT, SIZE, TOP, WIDTH

# Twice as many pixels as a view needs: a coarser image would show in it.
_MIN_PIXELS = 2


@dataclass(frozen=True)
class WholeImage:
    """An image and what to cut out of it.

    Not a tuple: collate functions other than `collate_views` refuse it.
    """

    # (H, W, 3) uint8 RGB, not to be written to, or the file that has them
    pixels: np.ndarray | EncodedImage
    params: np.ndarray  # (V, NUM_PARAMS), see `view_params`


def whole_image(
    img: np.ndarray | EncodedImage, params: np.ndarray
) -> WholeImage:
    """Put an image and the rows of its views together, shrunk if it is huge.

    Several pixels are averaged into one as far as every box keeps at least
    two pixels for each pixel of its view. Photographs of 12,000x9,000 pixels
    become some megabytes so; with SwAV's crops, those of less than 3
    megapixels always stay as they are. Views differ by less than 1/255 on
    average.

    Args:
        img: (H, W, 3) uint8 RGB; it is not copied. A file is decoded only if
            it is to be shrunk.
        params: (V, NUM_PARAMS) rows of `draw_view_params` for its size.
    """
    sides = params[:, [HEIGHT, WIDTH]].min(axis=1)
    factor = int((sides / (_MIN_PIXELS * params[:, SIZE])).min())
    if factor > 1:
        if isinstance(img, EncodedImage):
            img = read_rgb(img.path)
        img = np.asarray(Image.fromarray(img).reduce(factor))
        params = params.copy()
        params[:, [TOP, LEFT, HEIGHT, WIDTH]] /= factor
    return WholeImage(img, params)
