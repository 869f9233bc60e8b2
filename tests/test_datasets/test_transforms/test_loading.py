"""Right pixels for every kind of file, and a clear word for broken ones.

And which files the device may decode.
"""

import copy
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swav_plugin.datasets import ImageFolder, SampleKey
from swav_plugin.datasets.transforms import (
    LoadImage,
    PackViews,
    UnreadableImage,
    loading,
    read_rgb,
)
from swav_plugin.datasets.transforms.formatting import whole_image
from swav_plugin.datasets.transforms.loading import EncodedImage, read_encoded
from swav_plugin.datasets.transforms.pillow_files import open_image
from swav_plugin.datasets.transforms.view_params import (
    HEIGHT,
    NUM_PARAMS,
    SIZE,
    WIDTH,
)
from swav_plugin.registry import TRANSFORMS

from ..conftest import write_image


def ramp() -> np.ndarray:
    """(16, 16) uint8 with all values once."""
    return np.arange(256, dtype=np.uint8).reshape(16, 16)


def gray(values: np.ndarray) -> np.ndarray:
    """(H, W) -> (H, W, 3)."""
    return np.repeat(values[..., None], 3, axis=2)


def test_color_png_and_results_keys(tmp_path: Path) -> None:
    path = tmp_path / 'a.png'
    pixels = write_image(path, seed=0, height=40, width=60)
    results = LoadImage()(dict(img_path=str(path), gt_label=3))
    np.testing.assert_array_equal(results.pop('img'), pixels)
    assert results == dict(
        img_path=str(path),
        gt_label=3,
        channel_order='rgb',
        ori_shape=(40, 60),
        img_shape=(40, 60),
    )


def test_photos_equal_pillows_rgb(test_data: Path) -> None:
    for path in sorted((test_data / 'photos').iterdir())[::14]:
        with open(path, 'rb') as file:
            expected = np.asarray(Image.open(file).convert('RGB'))
        np.testing.assert_array_equal(read_rgb(path), expected)


def test_pixels_may_be_written_to(tmp_path: Path) -> None:
    # Transforms of other packages write in place outside MultiView.
    write_image(tmp_path / 'a.png', seed=0)
    read_rgb(tmp_path / 'a.png')[:] = 0


@pytest.mark.parametrize('name', ['a.png', 'a.tif', 'a.pgm', 'a.bmp'])
def test_grayscale(tmp_path: Path, name: str) -> None:
    Image.fromarray(ramp()).save(tmp_path / name)
    np.testing.assert_array_equal(read_rgb(tmp_path / name), gray(ramp()))


def test_one_bit(tmp_path: Path) -> None:
    Image.fromarray(ramp() > 127).save(tmp_path / 'a.png')
    np.testing.assert_array_equal(
        read_rgb(tmp_path / 'a.png'), gray((ramp() > 127) * np.uint8(255))
    )


@pytest.mark.parametrize('name', ['a.png', 'a.tif', 'a.pgm'])
def test_16_bit_grayscale_keeps_the_high_byte(
    tmp_path: Path, name: str
) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(values).save(tmp_path / name)
    np.testing.assert_array_equal(
        read_rgb(tmp_path / name), gray((values // 256).astype(np.uint8))
    )


def test_16_bit_color_keeps_the_high_byte(tmp_path: Path) -> None:
    # Pillow cannot write 16-bit color, OpenCV can (in BGR).
    cv2 = pytest.importorskip('cv2')
    rng = np.random.default_rng(0)
    values = rng.integers(65536, size=(20, 30, 3), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / 'a.png'), values[..., ::-1])
    np.testing.assert_array_equal(
        read_rgb(tmp_path / 'a.png'), (values // 256).astype(np.uint8)
    )


@pytest.mark.parametrize('transparency', [None, 3, bytes(range(256))])
def test_palette(tmp_path: Path, transparency: int | bytes | None) -> None:
    palette = np.random.default_rng(0).integers(256, size=(256, 3))
    img = Image.frombytes('P', (16, 16), ramp().tobytes())
    img.putpalette(palette.ravel().tolist())
    extra = {} if transparency is None else dict(transparency=transparency)
    img.save(tmp_path / 'a.png', **extra)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        pixels = read_rgb(tmp_path / 'a.png')
    # The color of the palette, however transparent it is.
    np.testing.assert_array_equal(pixels, palette[ramp()])


@pytest.mark.parametrize('mode', ['RGBA', 'LA'])
def test_alpha_is_dropped(tmp_path: Path, mode: str) -> None:
    img = Image.fromarray(gray(ramp())).convert(mode)
    img.putalpha(Image.fromarray(255 - ramp()))
    img.save(tmp_path / 'a.png')
    np.testing.assert_array_equal(read_rgb(tmp_path / 'a.png'), gray(ramp()))


def test_cmyk_jpeg_is_not_inverted(tmp_path: Path) -> None:
    # 20 % cyan ink and no other: a light cyan, (204, 255, 255).
    path = tmp_path / 'a.jpg'
    Image.new('CMYK', (16, 16), (51, 0, 0, 0)).save(path, quality=100)
    assert b'Adobe' in path.read_bytes()  # which stores inks inverted
    difference = read_rgb(path).astype(int) - (204, 255, 255)
    assert abs(difference).max() <= 2  # JPEG's rounding


@pytest.mark.parametrize('name', ['b.png', 'b.jpg', 'b.webp', 'b.tif'])
def test_exif_orientation_is_not_applied(tmp_path: Path, name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to view
    pixels = write_image(tmp_path / 'a.png', seed=0, height=40, width=60)
    Image.fromarray(pixels).save(
        tmp_path / name, exif=exif, quality=100, subsampling=0, lossless=True
    )
    found = read_rgb(tmp_path / name)
    assert abs(found.astype(int) - pixels).max() <= (
        4 if name == 'b.jpg' else 0
    )


@pytest.mark.parametrize(
    'arguments',
    [
        dict(progressive=True),
        dict(keep_rgb=True),
        dict(restart_marker_rows=1),
        dict(optimize=True),
    ],
)
def test_kinds_of_jpeg(tmp_path: Path, arguments: dict) -> None:
    pixels = write_image(tmp_path / 'a.png', seed=0, height=40, width=60)
    Image.fromarray(pixels).save(
        tmp_path / 'a.jpg', quality=100, subsampling=0, **arguments
    )
    difference = read_rgb(tmp_path / 'a.jpg').astype(int) - pixels
    assert abs(difference).max() <= 4  # JPEG's rounding


def test_grayscale_jpeg(tmp_path: Path) -> None:
    values = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / 'a.jpg', quality=100)
    pixels = read_rgb(tmp_path / 'a.jpg')
    assert abs(pixels.astype(int) - gray(values)).max() <= 2
    assert (pixels == pixels[..., :1]).all()


@pytest.mark.parametrize('name', ['a.png', 'a.jpg'])
def test_one_pixel(tmp_path: Path, name: str) -> None:
    Image.new('RGB', (1, 1), (200, 200, 200)).save(tmp_path / name)
    np.testing.assert_array_equal(
        read_rgb(tmp_path / name), np.full((1, 1, 3), 200)
    )


def test_what_follows_the_image_is_ignored(tmp_path: Path) -> None:
    write_image(tmp_path / 'a.jpg', seed=0)
    content = (tmp_path / 'a.jpg').read_bytes()
    (tmp_path / 'b.jpg').write_bytes(content + b'\xff\xd8\xffgarbage' * 99)
    np.testing.assert_array_equal(
        read_rgb(tmp_path / 'b.jpg'), read_rgb(tmp_path / 'a.jpg')
    )


@pytest.mark.parametrize('arguments', [{}, dict(progressive=True)])
def test_jpeg_cut_anywhere_is_never_half_an_image(
    tmp_path: Path, arguments: dict
) -> None:
    pixels = write_image(tmp_path / 'a.png', seed=0)
    Image.fromarray(pixels).save(tmp_path / 'a.jpg', **arguments)
    content = (tmp_path / 'a.jpg').read_bytes()
    # Whether the last bytes, the marker of the end, are missed is Pillow's.
    for length in range(1, len(content) - 8, 7):
        (tmp_path / 'b.jpg').write_bytes(content[:length])
        with pytest.raises(UnreadableImage):
            read_rgb(tmp_path / 'b.jpg')


@pytest.mark.parametrize('arguments', [{}, dict(progressive=True)])
def test_damaged_jpeg_is_what_pillow_makes_of_it(
    test_data: Path,
    tmp_path: Path,
    arguments: dict,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # OpenCV fills up with gray where Pillow raises; the end tells them apart.
    rng = np.random.default_rng(0)
    photo = sorted((test_data / 'imagenette160/train').rglob('*.*'))[0]
    Image.open(photo).save(tmp_path / 'whole.jpg', **arguments)
    whole = (tmp_path / 'whole.jpg').read_bytes()
    num_read = 0
    for kind in 60 * ['flipped', 'hole', 'cut', 'cut and ended']:
        content = bytearray(whole)
        start, stop = sorted(rng.integers(2, len(whole) - 2, size=2))
        if kind == 'flipped':
            content[start] ^= 1 << rng.integers(8)
        elif kind == 'hole':
            del content[start:stop]
        else:
            end = b'\xff\xd9' if kind == 'cut and ended' else b''
            content[start:] = end
        path = tmp_path / 'damaged.jpg'
        path.write_bytes(content)
        shown = []
        for flag in (loading._CV2_RGB, None):  # None: Pillow alone
            with monkeypatch.context() as patch:
                patch.setattr(loading, '_CV2_RGB', flag)
                try:
                    shown.append(read_rgb(path))
                except UnreadableImage as error:
                    shown.append(str(error))
        np.testing.assert_array_equal(*shown)
        num_read += isinstance(shown[0], np.ndarray)
    assert 60 < num_read < 200


def test_header_that_claims_a_giant_image(tmp_path: Path) -> None:
    write_image(tmp_path / 'a.jpg', seed=0)
    content = bytearray((tmp_path / 'a.jpg').read_bytes())
    frame = content.index(b'\xff\xc0')
    content[frame + 5 : frame + 9] = b'\xff' * 4  # 65535 x 65535 pixels
    (tmp_path / 'a.jpg').write_bytes(content)
    with pytest.raises(UnreadableImage, match='exceeds limit'):
        read_rgb(tmp_path / 'a.jpg')


def test_memory_of_a_huge_image_and_its_views(tmp_path: Path) -> None:
    pytest.importorskip('resource')  # not on Windows
    path = tmp_path / 'a.jpg'
    Image.new('RGB', (12000, 9000), (10, 200, 90)).save(path)
    code = f"""
import resource, warnings
import numpy as np
from swav_plugin.datasets import SampleKey
from swav_plugin.datasets.transforms import MultiCrop, read_rgb
warnings.simplefilter('ignore')  # Pillow's, of images above 89 Mpx
multi_crop = MultiCrop([2, 6], [224, 96], [(.14, 1.), (.05, .14)],
                       jitter_prob=0., grayscale_prob=0.)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
img = read_rgb({str(path)!r})
assert img.shape == (9000, 12000, 3)
views = multi_crop(dict(img=img, sample_idx=SampleKey(0, 0, 0)))['img']
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for view in views:
    assert (view == img[0, 0]).all()
print(after - before)
"""
    output = subprocess.run(
        [sys.executable, '-c', code],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    unit = 1 if sys.platform == 'darwin' else 1024
    # Pillow's image has 4 bytes for each pixel, two copies 3 each.
    used = int(output.splitlines()[-1]) * unit  # after what MultiCrop logs
    assert used < 11 * 12000 * 9000


def broken_file(folder: Path, kind: str) -> Path:
    """Write a file that cannot be read."""
    path = folder / f'{kind}.jpg'
    if kind == 'text':
        path.write_text('not a picture\n' * 50)
    elif kind == 'empty':
        path.touch()
    elif kind == 'folder':
        path.mkdir()
    elif kind == 'pipe':
        os.mkfifo(path)
    elif kind == 'device':
        path.symlink_to('/dev/zero')
    elif kind == 'float':
        Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(path, 'TIFF')
    elif kind == 'integers':
        Image.fromarray(np.full((4, 4), 10**6, np.int32)).save(path, 'TIFF')
    elif kind.startswith('truncated'):
        source = folder / f'whole.{kind[-3:]}'
        write_image(source, seed=0, height=200, width=200)
        content = source.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    return path


@pytest.mark.parametrize(
    'kind, reason',
    [
        ('text', 'not an image of a format that is read'),
        ('empty', 'the file is empty'),
        ('missing', 'No such file or directory'),
        ('folder', 'Is a directory'),
        ('pipe', 'a pipe, socket or device, not a file'),
        ('device', 'a pipe, socket or device, not a file'),
        (
            'float',
            r'floating-point values have no known range.*value_range=\(0, 4',
        ),
        ('integers', r'values up to 1000000 of 2147483647 would all be black'),
        ('truncated jpg', 'truncated'),
        ('truncated png', 'truncated|broken'),
        ('truncated bmp', 'truncated'),
    ],
)
def test_broken_files(tmp_path: Path, kind: str, reason: str) -> None:
    path = broken_file(tmp_path, kind)
    with pytest.raises(UnreadableImage, match=reason) as caught:
        read_rgb(path)
    assert read_encoded(path) is None
    if kind in ('pipe', 'device'):
        with pytest.raises(OSError, match=reason):
            open_image(path)
    assert caught.value.path == str(path)
    assert str(caught.value) == f'{path}: {caught.value.reason}'


@pytest.mark.filterwarnings('ignore::UserWarning:PIL')
def test_every_cut_and_every_flipped_byte_is_reported_or_read(
    tmp_path: Path,
) -> None:
    # Whatever Pillow's decoders raise on damage comes out as one class.
    path = tmp_path / 'a'
    rng = np.random.default_rng(0)
    num_unreadable = 0
    for suffix in ('jpg', 'png', 'tif', 'bmp', 'webp', 'ppm'):
        source = tmp_path / f'whole.{suffix}'
        write_image(source, seed=0)
        content = source.read_bytes()
        for _ in range(40):
            damaged = bytearray(content[: rng.integers(1, len(content))])
            damaged[rng.integers(min(len(damaged), 60))] ^= 0xFF
            path.write_bytes(damaged)
            try:
                assert read_rgb(path).ndim == 3
            except UnreadableImage as error:
                num_unreadable += 1
                assert error.reason
    assert num_unreadable > 100


def test_error_survives_the_way_from_a_worker() -> None:
    error = pickle.loads(pickle.dumps(UnreadableImage('a.jpg', 'cut')))
    assert (error.path, error.reason) == ('a.jpg', 'cut')


# Files for the device to decode


def jpeg(path: Path, mode: str = 'RGB', **options: bool) -> Path:
    """Write a colorful JPEG of 40x60 pixels."""
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
def test_unreadable_files_are_reported_as_ever(
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
            sizes=[8],
            crop_ratio_ranges=[(0.5, 1.0)],
        ),
        dict(
            type='MultiView',
            num_views=1,
            transforms=[[dict(type='RandomResizedCrop', size=8)]],
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


def test_encoded_image_survives_the_way_from_a_worker(tmp_path: Path) -> None:
    img = read_encoded(jpeg(tmp_path / 'a.jpg'))
    assert pickle.loads(pickle.dumps(img)) == copy.deepcopy(img) == img


# Channel order


BGR_LOADERS: list[dict] = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='LoadImageFromFile', color_type='unchanged'),
]
MULTI_CROP = dict(
    type='MultiCrop',
    num_views=[1],
    sizes=[8],
    crop_ratio_ranges=[(0.5, 1.0)],
)
MULTI_VIEW = dict(
    type='MultiView',
    num_views=1,
    transforms=[[dict(type='RandomResizedCrop', size=8)]],
)


@pytest.mark.parametrize('loader', BGR_LOADERS)
@pytest.mark.parametrize(
    'transform',
    [
        MULTI_CROP,
        {**MULTI_CROP, 'on_device': True},
        MULTI_VIEW,
        dict(type='PackViews'),
        dict(type='LoadImage'),
    ],
)
def test_bgr_is_not_taken_for_rgb(
    tmp_path: Path, loader: dict, transform: dict
) -> None:
    write_image(tmp_path / 'a.png', seed=0)
    results = dict(img_path=str(tmp_path / 'a.png'))
    loaded = TRANSFORMS.build(loader)(results)
    with pytest.raises(
        ValueError,
        match=f'{transform["type"]} takes RGB images, but .*a.png does not '
        r"say .*LoadImage'\), or set results\['channel_order'\] = 'rgb'",
    ):
        TRANSFORMS.build(transform)(loaded)


def test_loaders_that_say_what_they_give(tmp_path: Path) -> None:
    pixels = write_image(tmp_path / 'a.png', seed=0)
    own = dict(img_path=str(tmp_path / 'a.png'), img=pixels)
    packed = PackViews()(dict(own, channel_order='rgb'))
    np.testing.assert_array_equal(packed['inputs'].permute(1, 2, 0), pixels)
    with pytest.raises(ValueError, match="a.png says 'bgr'"):
        PackViews()(dict(own, channel_order='bgr'))
    # Arrays of a dataset, such as CIFAR-10, come from no file.
    for transform in (PackViews(), TRANSFORMS.build(MULTI_CROP)):
        transform(dict(img=pixels, sample_idx=SampleKey(0, 0, 0)))


@pytest.mark.parametrize('in_memory', [False, True])
def test_what_our_loader_gives_is_known_to_be_rgb(
    tmp_path: Path, in_memory: bool
) -> None:
    pixels = write_image(tmp_path / 'a.png', seed=0)
    # In memory, images need no loader.
    loader = [] if in_memory else [LoadImage()]
    dataset = ImageFolder(
        tmp_path, [*loader, PackViews()], in_memory=in_memory
    )
    inputs = dataset[0]['inputs'].permute(1, 2, 0)
    np.testing.assert_array_equal(inputs, pixels)
