"""Views cut with Pillow: the bytes of torchvision's own operations."""

import numpy as np
import torchvision.transforms.functional as F
from PIL import Image, ImageFilter

from swav_plugin.datasets import SampleKey
from swav_plugin.datasets.transforms import MultiCrop, pillow_ops
from swav_plugin.datasets.transforms.view_params import (
    ADJUSTMENTS,
    AMOUNT,
    FLIP,
    GRAYSCALE,
    NOTHING,
    ORDER,
    SIGMA,
    SIZE,
    TOP,
    WIDTH,
    draw_view_params,
)


def torchvision_view(img: np.ndarray, row: list[float]) -> Image.Image:
    """Cut one view by its row of parameters."""
    box, size = [int(value) for value in row[TOP : WIDTH + 1]], int(row[SIZE])
    view = F.resized_crop(Image.fromarray(img), *box, [size, size])
    if row[FLIP]:
        view = F.hflip(view)
    for adjustment in row[ORDER : ORDER + 4]:
        if adjustment != NOTHING:
            index = int(adjustment)
            adjust = getattr(F, f'adjust_{ADJUSTMENTS[index]}')
            view = adjust(view, row[AMOUNT + index])
    if row[GRAYSCALE]:
        view = F.rgb_to_grayscale(view, num_output_channels=3)
    if row[SIGMA]:
        view = view.filter(ImageFilter.GaussianBlur(row[SIGMA]))
    return view


def test_views_equal_torchvisions(photos: list[np.ndarray]) -> None:
    recipe = MultiCrop(
        [2, 6], [224, 96], [(0.14, 1.0), (0.05, 0.14)], on_device=True
    ).recipe
    columns = []
    for i, img in enumerate(photos):
        kept = img.copy()
        params = draw_view_params(SampleKey(i, 0, 0), *img.shape[:2], recipe)
        for view, row in zip(pillow_ops.cut_views(img, params), params):
            np.testing.assert_array_equal(
                view, torchvision_view(img, row.tolist())
            )
        np.testing.assert_array_equal(img, kept)
        columns.append(params)
    # Each operation had its turn, and each was left out once.
    drawn = np.concatenate(columns)
    for is_done in (
        drawn[:, FLIP] > 0,
        drawn[:, ORDER] != NOTHING,
        drawn[:, GRAYSCALE] > 0,
        drawn[:, SIGMA] > 0,
    ):
        assert 0 < is_done.mean() < 1
