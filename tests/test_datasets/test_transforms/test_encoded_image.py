"""Which files the device may decode, and what happens to the others."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swav_plugin.datasets.transforms import LoadImage, PackViews, read_rgb
from swav_plugin.datasets.transforms.encoded_image import (
    EncodedImage,
    read_encoded,
)
from swav_plugin.datasets.transforms.view_params import (
    HEIGHT,
    NUM_PARAMS,
    SIZE,
    WIDTH,
)
from swav_plugin.datasets.transforms.whole_image import whole_image
from swav_plugin.registry import TRANSFORMS

from ..conftest import write_image


def jpeg(path: Path, mode: str = 'RGB', **options: bool) -> Path:
    """Write a colourful JPEG of 40x60 pixels."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(256, size=(5, 7, 3), dtype=np.uint8)
    img = Image.fromarray(coarse).resize((60, 40)).convert(mode)
    img.save(path, **options)
    return path


@pytest.mark.parametrize(
    'mode, options', [('RGB', {}), ('L', {}), ('RGB', dict(progressive=True))]
)
def test_usual_files_stay_as_they_are(
    tmp_path: Path, mode: str, options: dict
) -> None:
    path = jpeg(tmp_path / 'a.jpg', mode, **options)
    results = LoadImage(decode_on_device=True)(dict(img_path=str(path)))
    img = results['img']
    assert (img.path, img.data) == (str(path), path.read_bytes())
    assert img.shape == (40, 60, 3) and img.size == 7200
    assert results['ori_shape'] == (40, 60)


def test_photographs_stay_as_they_are(test_data: Path) -> None:
    paths = sorted((test_data / 'photos').iterdir())[::14]
    shapes = [read_encoded(path).shape for path in paths]
    assert shapes == [read_rgb(path).shape for path in paths]


@pytest.mark.parametrize(
    'kind', ['cmyk', 'rgb inside', 'cut off', 'bytes behind the end', 'png']
)
def test_unusual_files_are_decoded_at_once(tmp_path: Path, kind: str) -> None:
    path = jpeg(tmp_path / 'a.jpg', 'CMYK' if kind == 'cmyk' else 'RGB')
    if kind == 'rgb inside':
        jpeg(path, keep_rgb=True)
        assert Image.open(path).info.get('adobe_transform', 0) == 0
    if kind == 'png':
        path = tmp_path / 'a.png'
        write_image(path, seed=0)
    if kind == 'cut off':
        path.write_bytes(path.read_bytes()[:-20])
    if kind == 'bytes behind the end':
        path.write_bytes(path.read_bytes() + b'0')
    assert read_encoded(path) is None
    if kind != 'cut off':
        img = LoadImage(decode_on_device=True)(dict(img_path=path))['img']
        np.testing.assert_array_equal(img, read_rgb(path))


@pytest.mark.parametrize('content', [None, b'', b'\xff\xd8\xff\xd9', b'GIF'])
def test_unreadable_files_are_told_as_ever(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / 'a.jpg'
    if content is not None:
        path.write_bytes(content)
    messages = []
    for decode_on_device in (False, True):
        with pytest.raises(RuntimeError) as caught:
            LoadImage(decode_on_device)(dict(img_path=str(path)))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_huge_file_is_decoded_to_be_shrunk(tmp_path: Path) -> None:
    img = read_encoded(jpeg(tmp_path / 'a.jpg'))
    params = np.zeros((1, NUM_PARAMS))
    params[0, [SIZE, HEIGHT, WIDTH]] = 10, 39, 60
    assert isinstance(whole_image(img, params).pixels, EncodedImage)
    params[0, HEIGHT] = 40
    shrunk = whole_image(img, params)
    expected = Image.fromarray(read_rgb(tmp_path / 'a.jpg')).reduce(2)
    np.testing.assert_array_equal(shrunk.pixels, np.asarray(expected))
    assert shrunk.params[0, HEIGHT] == 20


@pytest.mark.parametrize(
    'transform',
    [
        dict(
            type='MultiCrop',
            num_views=[1],
            scales=[8],
            crop_ratio_ranges=[(0.5, 1.0)],
        ),
        dict(
            type='MultiView',
            num_views=1,
            transforms=[[dict(type='RandomResizedCrop', scale=8)]],
        ),
        dict(type='RandomFlip', prob=1.0),
        dict(type='PackViews'),
    ],
)
def test_who_needs_pixels_says_what_to_do(
    tmp_path: Path, transform: dict
) -> None:
    path = jpeg(tmp_path / 'a.jpg')
    results = LoadImage(decode_on_device=True)(dict(img_path=str(path)))
    with pytest.raises(
        Exception, match='a.jpg is not decoded yet.*on_device=True'
    ):
        PackViews()(TRANSFORMS.build(transform)(results))


def test_it_survives_the_way_from_a_worker(tmp_path: Path) -> None:
    img = read_encoded(jpeg(tmp_path / 'a.jpg'))
    assert pickle.loads(pickle.dumps(img)) == copy.deepcopy(img) == img
