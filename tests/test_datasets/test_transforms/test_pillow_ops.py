"""Views cut with Pillow: the bytes of torchvision's own operations."""

import numpy as np

from swav_plugin.datasets import SampleKey
from swav_plugin.datasets.transforms import MultiCrop, pillow_ops
from swav_plugin.datasets.transforms.view_params import (
    FLIP,
    GRAYSCALE,
    NOTHING,
    ORDER,
    SIGMA,
    draw_view_params,
)

from ..conftest import torchvision_view


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
