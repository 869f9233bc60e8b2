"""JPEG files of a batch become the pixels that the loader would give."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from swav_plugin.datasets import ImageBatch, collate_views
from swav_plugin.datasets.transforms import LoadImage, device_decode, read_rgb
from swav_plugin.datasets.transforms.device_decode import decode_images
from swav_plugin.datasets.transforms.formatting import whole_image
from swav_plugin.datasets.transforms.view_params import (
    HEIGHT,
    HUE,
    NOTHING,
    NUM_PARAMS,
    ORDER,
    SIZE,
    WIDTH,
)
from swav_plugin.models import MultiViewPreprocessor


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Two JPEG files, in color and in gray, between two PNG files."""
    rng = np.random.default_rng(0)
    paths = []
    for i, name in enumerate(('0.png', '1.jpg', '2.jpg', '3.png')):
        coarse = rng.integers(256, size=(5, 7, 3), dtype=np.uint8)
        img = Image.fromarray(coarse).resize((60 + i, 40 - i))
        img.convert('L' if i == 2 else 'RGB').save(tmp_path / name)
        paths.append(tmp_path / name)
    return paths


class Samples:
    """Images as workers read them."""

    def __init__(self, paths: list[Path], decode_on_device: bool) -> None:
        self.paths = paths
        self.load = LoadImage(decode_on_device)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        img = self.load(dict(img_path=str(self.paths[index])))['img']
        params = np.zeros((1, NUM_PARAMS))
        params[:, [SIZE, HEIGHT, WIDTH]] = 30
        params[:, ORDER : ORDER + 4] = HUE, NOTHING, NOTHING, NOTHING
        return dict(inputs=whole_image(img, params), data_samples=index)


def batch_of(
    paths: list[Path], decode_on_device: bool = True, num_workers: int = 0
) -> ImageBatch:
    """Collate all files."""
    loader = DataLoader(
        Samples(paths, decode_on_device),
        batch_size=len(paths),
        num_workers=num_workers,
        collate_fn=collate_views,
    )
    (data,) = loader
    return data['inputs']


def images_of(batch: ImageBatch) -> list[np.ndarray]:
    """Return the images of a batch, by `layout` and `sizes`."""
    return [
        batch.pixels[first : first + height * width]
        .view(height, width, 3)
        .numpy()
        for (first, width), (height, _) in zip(
            batch.layout.tolist(), batch.sizes
        )
    ]


@pytest.mark.parametrize('num_workers', [0, 1])
@pytest.mark.parametrize('chosen', [[0, 1, 2, 3], [2, 1], [3, 0]])
def test_files_and_arrays_in_one_batch(
    paths: list[Path], chosen: list[int], num_workers: int
) -> None:
    paths = [paths[i] for i in chosen]
    batch = batch_of(paths, num_workers=num_workers)
    files = [] if batch.encoded is None else batch.encoded.paths
    assert files == [str(p) for p in paths if p.suffix == '.jpg']
    decoded = decode_images(batch)
    assert decoded.encoded is None
    for img, path in zip(images_of(decoded), paths):
        np.testing.assert_array_equal(img, read_rgb(path))


def test_real_photographs(test_data: Path) -> None:
    paths = sorted((test_data / 'photos').iterdir())[::14]
    batch = batch_of(paths)
    # Some are shrunk, and for that decoded.
    assert batch.encoded is not None and len(batch.encoded.paths) > 5
    for img, other in zip(
        images_of(decode_images(batch)), images_of(batch_of(paths, False))
    ):
        np.testing.assert_array_equal(img, other)


def test_views_are_the_same(paths: list[Path]) -> None:
    preprocessor = MultiViewPreprocessor([0.0] * 3, [1.0] * 3)
    views, expected = (
        preprocessor(dict(inputs=batch_of(paths, decode_on_device)))['inputs']
        for decode_on_device in (True, False)
    )
    assert torch.equal(views[0], expected[0]) and views[0].std() > 10


def test_damaged_file_is_named(paths: list[Path]) -> None:
    content = bytearray(paths[2].read_bytes())
    at = content.index(b'\xff\xc4')  # a table, which then has no sense
    content[at + 4 : at + 20] = b'\xff' * 16
    paths[2].write_bytes(content)
    with pytest.raises(
        RuntimeError,
        match='2.jpg cannot be decoded on cpu: .*Remove it or set',
    ):
        decode_images(batch_of(paths))


def test_header_that_is_wrong(paths: list[Path]) -> None:
    batch = batch_of(paths)
    assert batch.encoded is not None
    batch.encoded.shapes[1] = (38, 61)
    with pytest.raises(
        RuntimeError,
        match=r'2.jpg has \(38, 62\) pixels, but '
        r'its header says \(38, 61\)',
    ):
        decode_images(batch)


def test_old_torchvision(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_decode.torchvision, '__version__', '0.19.1+cpu')
    with pytest.raises(RuntimeError, match='torchvision >= 0.20 .*0.19.1'):
        decode_images(batch_of(paths))
