"""mmselfsup's windows, against sums over slices of the map."""

import numpy as np
import pytest
import torch

from swav_plugin.models.feature_pooling import (
    GRIDS,
    MMSELFSUP_WINDOWS,
    check_windows,
    pool_feature,
)

# Size, kernel, stride, padding, windows to a side: mmselfsup's table, by hand.
TABLE = [
    ('feature1', 112, 10, 10, 4, 12),
    ('feature2', 56, 16, 8, 0, 6),
    ('feature3', 28, 13, 5, 0, 4),
    ('feature4', 14, 8, 3, 0, 3),
    ('feature5', 7, 6, 1, 0, 2),
]


@pytest.mark.parametrize('name, size, kernel, stride, padding, grid', TABLE)
def test_windows_are_mmselfsups(
    name: str, size: int, kernel: int, stride: int, padding: int, grid: int
) -> None:
    maps = np.random.default_rng(0).normal(size=(2, 3, size, size))
    padded = np.pad(maps, [(0, 0)] * 2 + [(padding, padding)] * 2)
    expected = np.zeros((2, 3, grid, grid))
    for row in range(grid):
        for column in range(grid):
            top, left = row * stride, column * stride
            window = padded[..., top : top + kernel, left : left + kernel]
            assert window.shape[2:] == (kernel, kernel)
            # Zeros of the padding count.
            expected[..., row, column] = window.mean((2, 3))
    pooled = pool_feature(torch.tensor(maps), name)
    np.testing.assert_allclose(pooled.numpy(), expected.reshape(2, -1))
    assert GRIDS[name] == grid


def test_widths_of_resnet50() -> None:
    channels = (64, 256, 512, 1024, 2048)
    widths = [
        pool_feature(torch.zeros(1, c, size, size), name).shape[1]
        for c, (name, (size, *_)) in zip(channels, MMSELFSUP_WINDOWS.items())
    ]
    assert widths == [9216, 9216, 8192, 9216, 8192]


def test_a_grid_fits_any_map() -> None:
    maps = torch.arange(24.0).view(1, 1, 4, 6)
    assert pool_feature(maps, 'feature5', grid=2).tolist() == [
        [
            maps[0, 0, :2, :3].mean(),
            maps[0, 0, :2, 3:].mean(),
            maps[0, 0, 2:, :3].mean(),
            maps[0, 0, 2:, 3:].mean(),
        ]
    ]


def test_another_size_of_image_is_refused() -> None:
    with pytest.raises(ValueError, match='feature5 is 5x5.*are for 7x7'):
        pool_feature(torch.zeros(1, 2, 5, 5), 'feature5')


def test_the_old_name_of_windows_goes_on_working() -> None:
    with pytest.warns(FutureWarning, match="'page' is now 'mmselfsup'"):
        assert check_windows('page') == 'mmselfsup'
    with pytest.raises(ValueError, match="windows='some'; use 'mmselfsup' or"):
        check_windows('some')
