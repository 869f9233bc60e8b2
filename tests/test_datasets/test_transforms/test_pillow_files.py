"""What is in an image file: formats, depth, layout, orientation, bands."""

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from swav_plugin.datasets import ImageFolder, image_memory
from swav_plugin.datasets.transforms import (
    LoadImage,
    UnreadableImage,
    pillow_files,
    read_rgb,
)
from swav_plugin.datasets.transforms.pillow_files import (
    image_extensions,
    open_image,
    readable_formats,
    to_rgb,
)
from tests.conftest import REPO_ROOT

from ..tiff import BLACK_IS_0, CMYK, RGB, WHITE_IS_0, write_tiff


@pytest.fixture(autouse=True)
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is logged; as in a process that has read no dim image yet."""
    messages: list[str] = []
    monkeypatch.setattr(pillow_files, '_dim_files', [])
    monkeypatch.setattr(
        pillow_files,
        'print_log',
        lambda message, **_: messages.append(message),
    )
    return messages


def ramp() -> np.ndarray:
    """(16, 18) uint8 with all values."""
    return np.resize(np.arange(256, dtype=np.uint8), (16, 18))


def colors() -> np.ndarray:
    """(16, 18, 3) uint8 of three different bands."""
    return np.stack([ramp(), ramp().T.reshape(16, 18), 255 - ramp()], 2)


def deep(values: np.ndarray, bits: int = 16) -> np.ndarray:
    """Uint16 with the same look, in the lowest `bits`."""
    return (values.astype(np.uint16) * 257) >> (16 - bits)


def gray(values: np.ndarray) -> np.ndarray:
    """(H, W) -> (H, W, 3)."""
    return np.repeat(values[..., None], 3, axis=2)


# Formats


def test_formats_are_those_that_pillow_decodes_and_no_programs() -> None:
    formats = readable_formats()
    assert {'JPEG', 'PNG', 'TIFF', 'WEBP', 'GIF', 'JPEG2000'} <= {*formats}
    # Programs, containers of other formats, and what Pillow only recognizes.
    left_out = {'EPS', 'IPTC', 'MPEG', 'BUFR', 'GRIB', 'HDF5', 'WMF'}
    assert not left_out & {*formats}
    assert {*formats} | left_out == {*Image.OPEN}
    extensions = image_extensions()
    assert {'.jfif', '.jpe', '.gif', '.jp2', '.mpo', '.pbm'} <= extensions
    assert not {'.eps', '.ps', '.pdf', '.mpg', '.h5', '.wmf'} & extensions


def test_format_of_a_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, 'ID', [*Image.ID, 'NEW'])
    monkeypatch.setitem(Image.OPEN, 'NEW', (lambda *_: None, None))
    before = image_extensions()
    monkeypatch.setitem(Image.EXTENSION, '.new', 'NEW')
    assert image_extensions() - before == {'.new'}


@pytest.mark.parametrize('start', [b'%!PS-Adobe-3.0 EPSF-3.0\n', b'\n%!PS\n'])
def test_postscript_never_reaches_ghostscript(
    tmp_path: Path, start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*args: Any, **kwargs: Any) -> None:
        raise AssertionError('Ghostscript was called')

    monkeypatch.setattr(EpsImagePlugin, 'Ghostscript', run)
    path = tmp_path / 'photo.jpg'
    path.write_bytes(
        start + b'%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n'
    )
    with pytest.raises(UnreadableImage, match='a format that is read'):
        read_rgb(path)
    dataset = ImageFolder(
        tmp_path, [LoadImage()], in_memory=True, test_mode=True
    )
    with pytest.raises(UnreadableImage, match='a format that is read'):
        dataset[0]


def test_files_are_opened_in_one_place() -> None:
    calls = {
        str(path.relative_to(REPO_ROOT))
        for folder in ('swav_plugin', 'tools')
        for path in sorted((REPO_ROOT / folder).rglob('*.py'))
        if re.search(r'\bImage\.open\(', path.read_text(encoding='utf-8'))
    }
    assert calls == {'swav_plugin/datasets/transforms/pillow_files.py'}


# Depth


@pytest.mark.parametrize('bits', [10, 12, 14])
@pytest.mark.parametrize('name', ['a.png', 'a.tif', 'a.pgm', 'a.jp2'])
@pytest.mark.parametrize('is_color', [False, True])
def test_values_that_use_some_of_16_bits(
    tmp_path: Path, bits: int, name: str, is_color: bool, warned: list[str]
) -> None:
    path = tmp_path / (name.replace('pgm', 'ppm') if is_color else name)
    expected = np.tile(colors() if is_color else gray(ramp()), (4, 4, 1))
    values = deep(expected, bits)
    options: list[int] = []
    if name == 'a.jp2':  # lossless
        options = [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000]
    written = values[..., ::-1] if is_color else values[..., 0]
    if not cv2.imwrite(str(path), written, options):
        pytest.skip('this OpenCV does not write such files')
    shown = LoadImage(value_range=(0, 2**bits - 1))(dict(img_path=str(path)))
    # The colors of a JPEG 2000 file are stored as luma and chroma.
    tolerance = 1 if name == 'a.jp2' and is_color else 0
    difference = shown['img'].astype(int) - expected
    assert abs(difference).max() <= tolerance
    assert not warned
    # Without a word they are what their type says, and nearly black. Pillow
    # rounds the colors of a PPM, where it takes the high byte of others.
    dark = read_rgb(path)
    assert abs(dark.astype(int) - (expected >> (16 - bits))).max() <= 1
    read_rgb(path)
    (message,) = warned
    assert message.startswith(f'{path} declares 16-bit values but uses only')
    assert 'value_range=(0, 4095); (0, 65535) if they are right' in message
    high_bytes = read_rgb(path, (0, 65535))
    assert abs(dark.astype(int) - high_bytes).max() <= 1
    assert len(warned) == 1


def test_bright_values_are_no_reason_to_warn(
    tmp_path: Path, warned: list[str]
) -> None:
    Image.fromarray(deep(ramp())).save(tmp_path / 'a.png')
    Image.fromarray(ramp() // 8).save(tmp_path / 'dark 8-bit.png')
    for path in tmp_path.iterdir():
        read_rgb(path)
    assert not warned


@pytest.mark.parametrize('maximum', [255, 1023, 4095, 65535])
@pytest.mark.parametrize('kind', [b'P5', b'P6'])
def test_maximum_of_a_pgm_is_its_white(
    tmp_path: Path, maximum: int, kind: bytes
) -> None:
    expected = gray(ramp()) if kind == b'P5' else colors()
    values = expected[..., 0] if kind == b'P5' else expected
    values = (values.astype(int) * maximum / 255).round()
    path = tmp_path / 'a.pgm'
    path.write_bytes(
        kind
        + b' 18 16 %d\n' % maximum
        + values.astype('u1' if maximum == 255 else '>u2').tobytes()
    )
    difference = read_rgb(path).astype(int) - expected
    assert abs(difference).max() <= 1  # Pillow rounds
    if maximum < 65535:
        # The file says it, so nobody else has to.
        np.testing.assert_array_equal(read_rgb(path, (0, 9)), read_rgb(path))


def test_packed_12_bit_tiff_says_what_white_is(tmp_path: Path) -> None:
    values = deep(ramp(), 12)
    path = write_tiff(tmp_path / 'a.tif', values, BLACK_IS_0, bits=12)
    np.testing.assert_array_equal(read_rgb(path), gray(ramp()))


@pytest.mark.parametrize('order', '<>')
def test_signed_and_floating_point_values(tmp_path: Path, order: str) -> None:
    half = (deep(ramp()) >> 1).astype(np.int16)
    path = write_tiff(tmp_path / 'half.tif', half, BLACK_IS_0, order)
    np.testing.assert_array_equal(read_rgb(path), gray(ramp()))
    full = (deep(ramp()).astype(int) - 32768).astype(np.int16)
    path = write_tiff(tmp_path / 'full.tif', full, BLACK_IS_0, order)
    with pytest.raises(UnreadableImage, match='down to -32768 have no known'):
        read_rgb(path)
    pixels = read_rgb(path, (-32768, 32767))
    np.testing.assert_array_equal(pixels, gray(ramp()))
    share = (ramp() / 255).astype(np.float32)
    path = write_tiff(tmp_path / 'float.tif', share, BLACK_IS_0, order)
    with pytest.raises(UnreadableImage, match=r'floating.*value_range=\('):
        read_rgb(path)
    np.testing.assert_array_equal(read_rgb(path, (0.0, 1.0)), gray(ramp()))
    share[3, 3] = np.nan
    path = write_tiff(tmp_path / 'nan.tif', share, BLACK_IS_0, order)
    with pytest.raises(UnreadableImage, match='not finite'):
        read_rgb(path, (0.0, 1.0))
    small = (ramp() // 2).astype(np.int8)
    path = write_tiff(tmp_path / 'small.tif', small, BLACK_IS_0, order)
    with pytest.raises(UnreadableImage, match='8-bit values with a sign'):
        read_rgb(path)


def test_32_bit_values(tmp_path: Path) -> None:
    full = deep(ramp()).astype(np.uint32) * 65537
    path = write_tiff(tmp_path / 'full.tif', full, BLACK_IS_0)
    np.testing.assert_array_equal(read_rgb(path), gray(ramp()))
    few = ramp().astype(np.uint32)
    path = write_tiff(tmp_path / 'few.tif', few, BLACK_IS_0)
    with pytest.raises(UnreadableImage, match='up to 255 .* all be black'):
        read_rgb(path)
    np.testing.assert_array_equal(read_rgb(path, (0, 255)), gray(ramp()))


@pytest.mark.parametrize(
    'value_range', [(1, 1), (5, 2), (0, np.inf), 4095, [0], '09', [0, '9'], {}]
)
def test_value_range_must_be_one(value_range: Any) -> None:
    with pytest.raises(ValueError, match='the lowest and the highest value'):
        LoadImage(value_range=value_range)


def test_images_in_memory_have_the_range_of_the_loader(tmp_path: Path) -> None:
    Image.fromarray(deep(ramp(), 12)).save(tmp_path / 'a.png')
    for in_memory in (False, True):
        dataset = ImageFolder(
            tmp_path, [LoadImage(value_range=(0, 4095))], in_memory=in_memory
        )
        np.testing.assert_array_equal(dataset[0]['img'], gray(ramp()))


def test_deep_values_of_unknown_kind_are_refused() -> None:
    with pytest.raises(ValueError, match='integer values have no known range'):
        to_rgb(Image.fromarray(np.zeros((4, 4), np.int32)))
    img = Image.fromarray(deep(ramp()))
    img.format = 'FITS'  # which has a sign and an offset
    with pytest.raises(ValueError, match='FITS values of more than 8 bits'):
        to_rgb(img)


# Layout of TIFF files


@pytest.mark.parametrize('order', '<>')
@pytest.mark.parametrize('tile', [None, 16])
@pytest.mark.parametrize('is_deflated', [False, True])
@pytest.mark.parametrize('alpha', [0, 1])
def test_planar_16_bit_tiff(
    tmp_path: Path,
    order: str,
    tile: int | None,
    is_deflated: bool,
    alpha: int,
) -> None:
    bands = np.dstack([colors()] + [ramp()] * alpha)
    path = write_tiff(
        tmp_path / 'a.tif',
        deep(bands),
        RGB,
        order,
        is_planar=True,
        tile=tile,
        is_deflated=is_deflated,
        extra=(2,) * alpha,
    )
    np.testing.assert_array_equal(read_rgb(path), colors())
    # Only the high bytes of colors in planes can be had.
    with pytest.raises(UnreadableImage, match='interleaved'):
        read_rgb(path, (0, 4095))


def test_planar_tiff_opened_by_the_user_is_refused(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / 'a.tif', deep(colors()), RGB, is_planar=True)
    with Image.open(path) as img, pytest.raises(ValueError, match='misreads'):
        to_rgb(img)
    with open_image(path) as img:
        np.testing.assert_array_equal(to_rgb(img), colors())


@pytest.mark.parametrize('is_deflated', [False, True])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_white_is_0(tmp_path: Path, is_deflated: bool, dtype: type) -> None:
    values = 255 - ramp()
    as_stored = {
        np.uint8: values,
        np.uint16: deep(values),
        np.float32: (values / 255).astype(np.float32),
    }[dtype]
    path = write_tiff(
        tmp_path / 'a.tif', as_stored, WHITE_IS_0, is_deflated=is_deflated
    )
    pixels = read_rgb(path, (0, 1) if dtype == np.float32 else None)
    np.testing.assert_array_equal(pixels, gray(ramp()))


@pytest.mark.parametrize(
    'extra, num_bands',
    [((0,), 4), ((0, 0), 5), ((2, 0), 5), ((0,), 2), ((0, 0, 0, 0), 5)],
)
@pytest.mark.parametrize('is_planar', [False, True])
@pytest.mark.parametrize('bits', [8, 16])
def test_bands_that_are_not_colors_are_not_dropped(
    tmp_path: Path,
    extra: tuple[int, ...],
    num_bands: int,
    is_planar: bool,
    bits: int,
) -> None:
    photometric = BLACK_IS_0 if num_bands - len(extra) == 1 else RGB
    bands = np.repeat(ramp()[..., None], num_bands, 2)
    path = write_tiff(
        tmp_path / 'a.tif',
        bands if bits == 8 else deep(bands),
        photometric,
        is_planar=is_planar,
        extra=extra,
    )
    with pytest.raises(UnreadableImage, match='bands, but only|Pillow cannot'):
        read_rgb(path)


def test_five_bands_of_ink_are_refused(tmp_path: Path) -> None:
    bands = np.repeat(ramp()[..., None], 5, 2)
    path = write_tiff(tmp_path / 'a.tif', bands, CMYK, extra=(0,))
    with pytest.raises(UnreadableImage, match='5 bands, but only 4 of them'):
        read_rgb(path)
    path = write_tiff(tmp_path / 'b.tif', 255 - bands[..., :4], CMYK)
    assert read_rgb(path).shape == (16, 18, 3)


def test_a_thumbnail_is_not_taken_for_the_image(tmp_path: Path) -> None:
    big = Image.fromarray(colors()).resize((64, 64))
    small = big.resize((8, 8))
    path = tmp_path / 'a.tif'
    small.save(path, save_all=True, append_images=[big], tiffinfo={254: 1})
    with pytest.raises(UnreadableImage, match='first image is a thumbnail'):
        read_rgb(path)
    big.save(path, save_all=True, append_images=[small])
    assert read_rgb(path).shape == (64, 64, 3)


@pytest.mark.parametrize('extra', [(), (1,), (2,)])
def test_transparency_of_a_tiff_is_dropped(
    tmp_path: Path, extra: tuple[int, ...]
) -> None:
    bands = np.dstack([colors(), np.full_like(ramp(), 255)])
    path = write_tiff(tmp_path / 'a.tif', bands, RGB, extra=extra)
    np.testing.assert_array_equal(read_rgb(path), colors())


def test_kinds_of_tiff_that_pillow_cannot_read_say_so(tmp_path: Path) -> None:
    values = (colors() / 255).astype(np.float32)
    path = write_tiff(tmp_path / 'a.tif', values, RGB)
    with pytest.raises(UnreadableImage, match='a TIFF of a kind that Pillow'):
        read_rgb(path)


# Orientation


@pytest.mark.parametrize('orientation', range(1, 9))
def test_tiff_is_not_turned_either(
    tmp_path: Path, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, values, is_planar in (
        ('8', colors(), False),
        ('16', deep(colors()), False),
        ('planes', deep(colors()), True),
    ):
        write_tiff(
            tmp_path / f'{name}.tif',
            values,
            RGB,
            is_planar=is_planar,
            orientation=orientation,
        )
    for path in sorted(tmp_path.iterdir()):
        np.testing.assert_array_equal(read_rgb(path), colors())
        assert image_memory._header_shape(str(path)) == (16, 18)
    dataset = ImageFolder(tmp_path, [LoadImage()], in_memory=True)
    for index in range(3):
        np.testing.assert_array_equal(dataset[index]['img'], colors())
    # With a range OpenCV reads, and would turn it.
    if orientation > 1:
        with pytest.raises(UnreadableImage, match='not turned'):
            read_rgb(tmp_path / '16.tif', (0, 65535))
