"""Views cut on the device are those that Pillow cuts on the CPU.

Independent reference: torchvision's arithmetic on Pillow images, with the same
numbers.
"""

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.utils import digit_version
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision.transforms import functional as F

from swav_plugin.datasets import SampleKey
from swav_plugin.datasets.collate import ImageBatch, collate_views
from swav_plugin.datasets.transforms import (
    ColorJitter,
    GaussianBlur,
    device_ops,
    read_rgb,
)
from swav_plugin.datasets.transforms.device_ops import (
    adjust_hue,
    cut_views,
    gaussian_blur,
    jitter_colors,
    to_grayscale,
)
from swav_plugin.datasets.transforms.formatting import whole_image
from swav_plugin.datasets.transforms.view_params import (
    ADJUSTMENTS,
    AMOUNT,
    FLIP,
    HEIGHT,
    LEFT,
    NOTHING,
    NUM_PARAMS,
    ORDER,
    SIZE,
    TOP,
    WIDTH,
    Recipe,
    draw_view_params,
)

from ..conftest import torchvision_view

# SwAV's views, with sizes that make a test fast.
RECIPE = Recipe(
    sizes=np.array([64] * 2 + [32] * 3),
    crop_ratio_ranges=np.array([[0.14, 1.0]] * 2 + [[0.05, 0.14]] * 3),
    aspect_ratio_range=np.array([3 / 4, 4 / 3]),
    flip_prob=0.5,
    amount_ranges=np.array([[0.2, 1.8]] * 3 + [[-0.2, 0.2]]),
    jitter_prob=0.8,
    grayscale_prob=0.2,
    sigma_range=np.array([0.1, 2.0]),
    blur_prob=0.5,
)
# Crops and flips alone.
GEOMETRY = RECIPE._replace(jitter_prob=0.0, grayscale_prob=0.0, blur_prob=0.0)


@pytest.fixture(scope='module')
def photos(test_data: Path) -> list[np.ndarray]:
    """Real photographs of many sizes, portrait and landscape, some gray."""
    paths = sorted((test_data / 'photos').iterdir())[::6]
    photos = [read_rgb(path) for path in paths]
    assert len({photo.shape for photo in photos}) > 8
    return photos


def rows_for(images: Sequence[np.ndarray], recipe: Recipe) -> list[np.ndarray]:
    """Draw (V, NUM_PARAMS) for each image."""
    return [
        draw_view_params(SampleKey(i, 0, 31), *img.shape[:2], recipe)
        for i, img in enumerate(images)
    ]


def batch_of(
    images: Sequence[np.ndarray], rows: Sequence[np.ndarray]
) -> ImageBatch:
    """Collate images and their rows as the loader does."""
    return collate_views(
        [
            dict(inputs=whole_image(img, params), data_samples=None)
            for img, params in zip(images, rows)
        ]
    )['inputs']


def reference(img: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Cut one view, (3, size, size)."""
    return planar(torchvision_view(img, row.tolist()))


def planar(img: np.ndarray) -> np.ndarray:
    """(h, w, 3) -> (3, h, w) float."""
    return img.transpose(2, 0, 1).astype(np.float32)


def as_batch(img: np.ndarray) -> Tensor:
    """(h, w, 3) uint8 -> (1, 3, h, w) float32."""
    return torch.from_numpy(planar(img).copy())[None]


def errors(
    views: Sequence[Tensor],
    images: Sequence[np.ndarray],
    rows: Sequence[np.ndarray],
) -> np.ndarray:
    """Mean absolute difference from the reference, (V, B)."""
    return np.array(
        [
            [
                np.abs(view[i].numpy() - reference(img, params[v])).mean()
                for i, (img, params) in enumerate(zip(images, rows))
            ]
            for v, view in enumerate(views)
        ]
    )


def distance(first: Tensor, second: Tensor) -> float:
    """Mean absolute difference."""
    return (first.float() - second).abs().mean().item()


# The whole chain


def test_views_equal_those_of_the_cpu(photos: list[np.ndarray]) -> None:
    rows = rows_for(photos, RECIPE)
    views = cut_views(batch_of(photos, rows))
    assert [view.shape[2:] for view in views] == [(64, 64)] * 2 + [
        (32, 32)
    ] * 3
    difference = errors(views, photos, rows)
    assert difference.mean() < 0.25 and difference.max() < 1.2
    # An image that has another one's colors is far away.
    assert errors(views, photos, rows[::-1]).mean() > 10


def test_only_geometry_is_exact_to_rounding(photos: list[np.ndarray]) -> None:
    # Others, with many pixels for each one of a view, are shrunk first.
    images = [photo for photo in photos if max(photo.shape) <= 500]
    rows = rows_for(
        images, GEOMETRY._replace(sizes=np.array([128] * 2 + [96] * 3))
    )
    views = cut_views(batch_of(images, rows))
    for v, view in enumerate(views):
        for i, params in enumerate(rows):
            difference = np.abs(
                view[i].numpy()
                - planar(torchvision_view(images[i], params[v]))
            )
            assert difference.max() <= 1 and difference.mean() < 0.25


def test_images_do_not_see_each_other(
    photos: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = photos[:7]
    rows = rows_for(images, RECIPE)
    together = cut_views(batch_of(images, rows))
    for i in range(7):
        alone = cut_views(batch_of(images[i : i + 1], rows[i : i + 1]))
        for v, view in enumerate(alone):
            # Sums over more zeros are added up in another order.
            assert distance(view[0], together[v][i]) < 0.01
    monkeypatch.setattr(device_ops, 'MAX_PIXELS', 600_000)
    chunks = list(
        device_ops._chunks(
            [img.shape[:2] for img in images], view_pixels=11264
        )
    )
    assert 2 < len(chunks) < 7
    for view, other in zip(cut_views(batch_of(images, rows)), together):
        assert distance(view, other) < 0.01


def test_chunks_cover_the_batch_within_bounds() -> None:
    rng = np.random.default_rng(0)
    sizes = [tuple(rng.integers(1, 3000, size=2).tolist()) for _ in range(99)]
    sizes[7] = (12000, 9000)
    chunks = list(device_ops._chunks(sizes, view_pixels=1000))
    assert [i for chunk in chunks for i in range(99)[chunk]] == list(range(99))
    for chunk in chunks:
        height, width = (max(sides) for sides in zip(*sizes[chunk]))
        num = chunk.stop - chunk.start
        assert num == 1 or (
            num * (height * width + 1000) <= device_ops.MAX_PIXELS
        )
    assert len(chunks) < 50


@pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.3'),
    reason='no float16 products on the CPU',
)
def test_half_precision_is_near(
    photos: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What CUDA computes, here on the CPU.
    images = photos[::3]
    rows = rows_for(images, RECIPE)
    pad = device_ops._pad
    monkeypatch.setattr(device_ops, '_pad', lambda *args: pad(*args).half())
    difference = errors(cut_views(batch_of(images, rows)), images, rows)
    assert difference.mean() < 0.5 and difference.max() < 1.5


@pytest.mark.parametrize('height, width', [(1, 1), (1, 300), (400, 2), (3, 3)])
def test_tiny_images(height: int, width: int) -> None:
    rng = np.random.default_rng(0)
    images = [
        rng.integers(256, size=(*shape, 3), dtype=np.uint8)
        for shape in ((height, width), (40, 60))
    ]
    rows = rows_for(images, RECIPE)
    assert errors(cut_views(batch_of(images, rows)), images, rows).max() < 1.2


def test_autocast_changes_nothing(photos: list[np.ndarray]) -> None:
    batch = batch_of(photos[:2], rows_for(photos[:2], RECIPE))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        views = cut_views(batch)
    for view, expected in zip(views, cut_views(batch)):
        assert torch.equal(view, expected)


# Where: boxes


def edges(height: int, width: int, top: int, left: int) -> np.ndarray:
    """Black to the left of `left` in red, above `top` in green."""
    img = np.zeros((height, width, 3), np.uint8)
    img[:, left:, 0] = 255
    img[top:, :, 1] = 255
    return img


@pytest.mark.parametrize(
    'height, width, shrinks',
    [
        (375, 500, False),
        (500, 333, False),
        (3000, 4000, True),
        (4003, 2999, True),
    ],
)
def test_edges_stand_where_they_should(
    height: int, width: int, shrinks: bool
) -> None:
    for i in range(5):
        params = draw_view_params(SampleKey(i, 0, 0), height, width, GEOMETRY)
        # The edge is in the middle of the first view.
        box = params[0]
        top, left = (
            int(box[TOP] + box[HEIGHT] / 2),
            int(box[LEFT] + box[WIDTH] / 2),
        )
        img = edges(height, width, top, left)
        assert shrinks == (whole_image(img, params).pixels.shape[0] < height)
        views = cut_views(batch_of([img], [params]))
        for row, view in zip(params, views):
            size = row[SIZE]
            # The position of an edge is how much of the view is before it.
            found_left = size * (1 - view[0, 0].float().mean().item() / 255)
            found_top = size * (1 - view[0, 1].float().mean().item() / 255)
            expected_left = np.clip(
                (left - row[LEFT]) / row[WIDTH] * size, 0, size
            )
            expected_top = np.clip(
                (top - row[TOP]) / row[HEIGHT] * size, 0, size
            )
            assert abs(found_left - expected_left) < 0.3
            assert abs(found_top - expected_top) < 0.3
            # And the bright side is to the right, or left if flipped.
            step = view[0, 0, 0, -1].item() - view[0, 0, 0, 0].item()
            assert step * (1 - 2 * row[FLIP]) >= 0


# Colors


def test_grayscale_is_pillows() -> None:
    rng = np.random.default_rng(0)
    img = rng.integers(256, size=(500, 500, 3), dtype=np.uint8)
    img[0, :256] = np.arange(256, dtype=np.uint8)[:, None]
    images = as_batch(img).repeat(2, 1, 1, 1)
    gray, kept = to_grayscale(images, torch.tensor([1.0, 0.0]))
    assert torch.equal(kept, images[1])
    for channel in gray:
        np.testing.assert_array_equal(
            channel.numpy(), np.asarray(Image.fromarray(img).convert('L'))
        )


@pytest.mark.parametrize('turns', [-0.5, -0.2, -0.003, 0.0, 0.1, 0.2, 0.5])
def test_hue_is_pillows(turns: float) -> None:
    rng = np.random.default_rng(0)
    img = rng.integers(256, size=(500, 500, 3), dtype=np.uint8)
    img[:9] //= 100  # nearly black
    img[9:12] = img[9:12, :, :1]  # gray
    expected = planar(np.asarray(F.adjust_hue(Image.fromarray(img), turns)))
    found = adjust_hue(as_batch(img), torch.tensor([turns]))[0].numpy()
    difference = np.abs(found - expected)
    # float32 instead of float64: one step of the hue in 0.2 % of pixels.
    assert difference.mean() < 0.01 and difference.max() <= 6


def test_colors_in_every_order(photos: list[np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    orders = [
        order for num in range(5) for order in permutations(range(4), num)
    ]
    assert len(orders) == 65
    crops = [photos[i % len(photos)][:48, :64] for i in range(65)]
    rows = np.zeros((65, NUM_PARAMS))
    rows[:, ORDER : ORDER + 4] = NOTHING
    rows[:, AMOUNT : AMOUNT + 3] = rng.uniform(0, 2, size=(65, 3))
    rows[:, AMOUNT + 3] = rng.uniform(-0.5, 0.5, size=65)
    for row, order in zip(rows, orders):
        row[ORDER : ORDER + len(order)] = order
    found = jitter_colors(
        torch.cat([as_batch(crop) for crop in crops]),
        torch.from_numpy(rows).float(),
    )
    for view, crop, row, order in zip(found, crops, rows, orders):
        expected = ColorJitter().apply(
            crop,
            [
                (ADJUSTMENTS[adjustment], row[AMOUNT + adjustment])
                for adjustment in order
            ],
        )
        difference = np.abs(view.numpy() - planar(expected))
        assert difference.mean() < 0.05, order
        if not order:
            assert difference.max() == 0


# Blur


@pytest.mark.parametrize(
    'sigma', [0.0, 0.1, 0.3, 0.7, 1.0, 1.5, 2.0, 5.0, 90.0]
)
def test_blur_is_pillows(photos: list[np.ndarray], sigma: float) -> None:
    for photo in photos[:4]:
        crop = photo[:96, :96]
        expected = planar(GaussianBlur().apply(crop, sigma))
        found = gaussian_blur(as_batch(crop), torch.tensor([sigma]))[0].numpy()
        difference = np.abs(found - expected)
        # Pillow rounds after each of three passes; the border is no worse.
        assert difference.max() <= 3 and difference.mean() < 1
        assert difference[:, :3].mean() < 1 and difference[..., -3:].mean() < 1
        if sigma == 0:
            assert difference.max() == 0


@pytest.mark.parametrize('radius', [0.0, 0.3, 1.0, 1.5, 7.25, 300.0])
def test_box_filter_is_pillows(radius: float) -> None:
    rng = np.random.default_rng(0)
    img = rng.integers(256, size=(40, 40, 3), dtype=np.uint8)
    box = device_ops._box_filter(torch.tensor([radius]), 40)
    found = (box @ as_batch(img)[0] @ box.transpose(1, 2)).numpy()
    expected = planar(
        np.asarray(Image.fromarray(img).filter(ImageFilter.BoxBlur(radius)))
    )
    # Pillow rounds twice.
    assert np.abs(found - expected).max() <= 1
    torch.testing.assert_close(box.sum(-1), torch.ones(1, 40))


def test_each_image_has_its_own_sigma() -> None:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(
        rng.integers(256, size=(3, 3, 16, 16)).astype(np.float32)
    )
    sigma = torch.tensor([0.0, 2.0, 0.5])
    together = gaussian_blur(images, sigma)
    assert torch.equal(together[0], images[0])
    for i in range(3):
        alone = gaussian_blur(images[i : i + 1], sigma[i : i + 1])[0]
        # Products of one matrix may be summed in another order: where a pixel
        # is halfway between two levels, it may round the other way.
        assert distance(alone, together[i]) < 0.01
