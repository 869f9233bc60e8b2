"""Open image files with Pillow and turn whatever they hold into 8-bit RGB.

The one place that decides which files are images, what their values mean and
which way up they are. What cannot be read right is an error, not a guess.

- Formats: all that Pillow can decode, but nothing that is a program.
- Depth: values run from 0 to the largest that the bits of the file can hold,
  unless a `value_range` says otherwise. 8-bit values stay as they are.
- Orientation: pixels as they are stored, in every format. Upstream does not
  apply what EXIF says either.
- Bands: gray, RGB or CMYK, with or without transparency, which is dropped.
"""

import errno
import functools
import logging
import os
import stat
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Any

import cv2
import numpy as np
from mmengine.logging import print_log
from PIL import Image, ImageFile, TiffImagePlugin

# EPS is a program that Ghostscript would run. IPTC holds a file of any format,
# and Pillow opens that in turn. MPEG is recognized only, not decoded.
_NOT_READ = ('EPS', 'IPTC', 'MPEG')

# Those in which integers of more than 8 bits mean what Pillow takes them for;
# None: not from a file.
_DEEP_FORMATS = ('TIFF', 'PNG', 'PPM', 'JPEG2000', None)

_GIVE_RANGE = 'give LoadImage their range, such as value_range=(0, 4095)'

# An image without a brighter pixel than this uses 14 of 16 bits or less.
_DIM = 64

# Tags of TIFF, and what some of them may say.
_SUBFILE, _REDUCED = 254, 1
_WIDTH, _HEIGHT, _BITS = 256, 257, 258
_PHOTOMETRIC, _WHITE_IS_0, _RGB = 262, 0, 2
_NUM_COLORS = {_RGB: 3, 5: 4, 6: 3, 8: 3}  # else 1
_FILL_ORDER, _ORIENTATION, _BANDS, _PLANAR = 266, 274, 277, 284
_EXTRA, _ALPHA = 338, (1, 2, 999)
_SAMPLE_FORMAT = 339

# What turns an image back that Pillow has turned as EXIF says.
_TURN_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}

ValueRange = tuple[float, float]

_dim_files: list[str] = []
_libtiff_for_all = threading.Lock()


def readable_formats() -> tuple[str, ...]:
    """Return Pillow's names of the formats that are read.

    Those of plugins, such as pillow-heif, are among them once the plugin is
    registered.
    """
    Image.preinit()  # the usual formats are tried first
    Image.init()
    return _formats(len(Image.ID))


@functools.cache
def _formats(num_registered: int) -> tuple[str, ...]:
    """Recompute when a plugin registers more formats."""
    return tuple(
        name
        for name in Image.ID
        if name not in _NOT_READ and not _is_stub(Image.OPEN[name][0])
    )


def _is_stub(factory: Any) -> bool:
    """Check whether Pillow leaves the decoding of a format to others."""
    return isinstance(factory, type) and issubclass(
        factory, ImageFile.StubImageFile
    )


def image_extensions() -> frozenset[str]:
    """Return the extensions of the formats that are read, such as '.jpg'."""
    return _extensions(len(Image.registered_extensions()))


@functools.cache
def _extensions(num_registered: int) -> frozenset[str]:
    """Recompute when a plugin registers more extensions."""
    formats = {*readable_formats(), 'MPO'}  # opened as a JPEG file
    return frozenset(
        extension
        for extension, name in Image.registered_extensions().items()
        if name in formats
    )


def open_image(
    file: str | os.PathLike | IO[bytes], formats: Sequence[str] | None = None
) -> ImageFile.ImageFile:
    """Open an image file of a format that is read.

    All files are opened here, because Pillow would go by their contents: it
    hands PostScript to Ghostscript whatever the file is called.

    Args:
        file: A path or a binary file.
        formats: Pillow's names, to accept nothing else.
    """
    if isinstance(file, (str, os.PathLike)):
        stat_file(file)
    formats = tuple(formats or readable_formats())
    img = Image.open(file, formats=formats)
    if _is_misread(img):
        with _libtiff_for_all:
            TiffImagePlugin.READ_LIBTIFF = True
            try:
                return Image.open(file, formats=formats)
            finally:
                TiffImagePlugin.READ_LIBTIFF = False
    return img


def open_file(path: str | os.PathLike) -> IO[bytes]:
    """Open an image file to read its bytes; raises as `stat_file`."""
    stat_file(path)
    return open(path, 'rb')


def stat_file(path: str | os.PathLike) -> os.stat_result:
    """Return the status of a file, but refuse pipes and devices.

    Reading a pipe would wait for ever, /dev/zero never ends.

    Raises:
        OSError: There is nothing at this path, or neither file nor folder.
    """
    status = os.stat(path)
    mode = status.st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, 'a pipe, socket or device, not a file')
    return status


def stored_shape(img: Image.Image) -> tuple[int, int]:
    """Return height and width of the pixels that `to_rgb` will give."""
    tags = _tiff_tags(img)
    return (tags[_HEIGHT], tags[_WIDTH]) if tags else (img.height, img.width)


def to_rgb(
    img: Image.Image,
    value_range: ValueRange | None = None,
    name: str = 'an image',
) -> Image.Image:
    """Convert an opened image of any mode to mode RGB.

    Args:
        img: Not loaded yet, if EXIF may turn it or `value_range` is given.
        value_range: As in `LoadImage`.
        name: What to call it in a warning.

    Raises:
        ValueError: It cannot be read right.
    """
    tags = _tiff_tags(img)
    turned = None
    if tags:
        _check_tiff(img)
        # Pillow turns TIFF files when it loads them, and only those.
        turned = img.getexif().get(_ORIENTATION)
    bits = _undeclared_bits(img, tags)
    if img.mode.startswith(('I', 'F')):
        rgb = Image.fromarray(
            _deep_gray(img, tags, value_range if bits else None)
        ).convert('RGB')
    elif bits and value_range is not None:
        rgb = Image.fromarray(_to_8_bits(_deep_color(img, tags), value_range))
        turned = None  # such a TIFF is refused
    elif img.mode == 'P' and 'transparency' in img.info:
        # Straight to RGB, Pillow would warn.
        rgb = img.convert('RGBA').convert('RGB')
    else:
        rgb = img if img.mode == 'RGB' else img.convert('RGB')
    if bits and value_range is None:
        _warn_if_dim(rgb, bits, name)
    if turned in _TURN_BACK:
        rgb.load()
        return rgb.transpose(_TURN_BACK[turned])
    return rgb


def _tiff_tags(img: Image.Image) -> Mapping[int, Any]:
    """Return the tags of a TIFF file; none of any other image."""
    return getattr(img, 'tag_v2', {}) if img.format == 'TIFF' else {}


def _check_tiff(img: Image.Image) -> None:
    """Raise ValueError for a TIFF that would be read wrong."""
    tags = _tiff_tags(img)
    photometric = tags.get(_PHOTOMETRIC, 0)
    num_colors = _NUM_COLORS.get(photometric, 1)
    num_bands = tags.get(_BANDS, num_colors)
    extra = tags.get(_EXTRA, ())
    if not extra and photometric == _RGB and num_bands == 4:
        extra = _ALPHA[:1]  # OpenCV, for one, does not say so
    has_alpha = len(extra) == 1 and extra[0] in _ALPHA
    if num_bands > num_colors + has_alpha:
        raise ValueError(
            f'{num_bands} bands, but only {num_colors} of them are colors; '
            'write those that are to be used as gray or RGB'
        )
    if tags.get(_SUBFILE, 0) & _REDUCED:
        raise ValueError('its first image is a thumbnail; save the full one')
    bits = max(tags.get(_BITS, (1,)))
    if bits == 8 and _is_signed(tags):
        raise ValueError('8-bit values with a sign')
    if _is_misread(img):
        raise ValueError(
            f'{bits}-bit values in uncompressed planes, one after another, '
            'which this version of Pillow misreads; write them interleaved'
        )


def _is_misread(img: Any) -> bool:
    """Check for the layout of a TIFF that Pillow alone takes for another.

    Bands one after another, in values of 16 bits or with the bits reversed.
    """
    tags = _tiff_tags(img)
    return (
        tags.get(_PLANAR, 1) == 2
        and tags.get(_BANDS, 1) > 1
        and (max(tags.get(_BITS, (1,))) > 8 or tags.get(_FILL_ORDER, 1) == 2)
        and any(tile[0] == 'raw' for tile in img.tile)
    )


def _is_signed(tags: Mapping[int, Any]) -> bool:
    """Check whether a TIFF declares integers with a sign."""
    return tags.get(_SAMPLE_FORMAT, (1,))[0] == 2


def _undeclared_bits(img: Image.Image, tags: Mapping[int, Any]) -> int:
    """Return the bits of deep values whose range is that of their type.

    0 if a value has at most 8 bits, or if the file says what its largest
    value is and Pillow has scaled the values by it.
    """
    if tags or img.mode == 'F':
        bits = max(tags.get(_BITS, (32,)))
        return bits if bits > 8 else 0
    # Decoder, box, offset and arguments of the decoder of the first tile.
    tile = (getattr(img, 'tile', None) or [('', (), 0, '')])[0]
    arguments = str(tile[3])
    if img.format == 'JPEG2000':
        return 16 if _jpeg_2000_bits(_content(img)) == 16 else 0
    if img.format == 'PPM':
        return 16 if '65535' in arguments or '16B' in arguments else 0
    return 16 if img.mode.startswith('I') or '16B' in arguments else 0


def _jpeg_2000_bits(content: bytes) -> int:
    """Return how many bits a JPEG 2000 file declares for its first band."""
    # Start of the codestream and its size segment; the byte is bits - 1, and
    # its highest bit a sign.
    start = content.find(b'\xff\x4f\xff\x51')
    return (content[start + 42] & 0x7F) + 1 if start >= 0 else 0


def _deep_gray(
    img: Image.Image, tags: Mapping[int, Any], value_range: ValueRange | None
) -> np.ndarray:
    """Scale gray values of more than 8 bits to (H, W) uint8."""
    if img.mode != 'F' and img.format not in _DEEP_FORMATS:
        raise ValueError(f'{img.format} values of more than 8 bits')
    values = np.asarray(img)
    if value_range is None:
        value_range = 0, _largest(img, tags)
        if tags and values.dtype == np.int32 and not _is_signed(tags):
            values = values.view(np.uint32)  # where Pillow has no such mode
        if values.min() < 0:
            raise ValueError(
                f'values down to {values.min()} have no known range; '
                f'{_GIVE_RANGE}'
            )
    gray = _to_8_bits(values, value_range)
    if value_range[1] > 65535 and values.any() and not gray.any():
        raise ValueError(
            f'values up to {values.max()} of {value_range[1]} would all be '
            f'black; {_GIVE_RANGE}'
        )
    if tags and tags.get(_PHOTOMETRIC, 0) == _WHITE_IS_0:
        return 255 - gray
    return gray


def _largest(img: Image.Image, tags: Mapping[int, Any]) -> int:
    """Return the largest value that the type of an image can hold."""
    if img.mode != 'F':
        if tags:
            return 2 ** (max(tags.get(_BITS, (1,))) - _is_signed(tags)) - 1
        if img.format is not None or img.mode != 'I':
            return 65535
    kind = 'floating-point' if img.mode == 'F' else 'integer'
    raise ValueError(f'{kind} values have no known range; {_GIVE_RANGE}')


def _deep_color(img: Any, tags: Mapping[int, Any]) -> np.ndarray:
    """Read (H, W, 3) uint16 RGB, of which Pillow would keep the high bytes."""
    # OpenCV takes planes for lines, and turns TIFF files as EXIF says.
    if img.format in ('PNG', 'PPM', 'JPEG2000') or (
        tags.get(_PHOTOMETRIC) == _RGB
        and tags.get(_PLANAR, 1) == 1
        and tags.get(_EXTRA, ()) in ((), (2,))
        and img.getexif().get(_ORIENTATION, 1) == 1
    ):
        content = np.frombuffer(_content(img), np.uint8)
        values = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
        if (
            values is not None
            and values.dtype == np.uint16
            and values.shape[:2] == stored_shape(img)
            and values.shape[2:] in ((3,), (4,))
        ):
            return values[..., 2::-1]
    raise ValueError(
        'value_range needs gray or RGB values in a PNG, PPM, JPEG 2000 or '
        'TIFF file, which is interleaved and not turned; this one is '
        f'{img.mode} of {img.format}'
    )


def _content(img: Any) -> bytes:
    """Read the whole file of an image that is not loaded yet."""
    img.fp.seek(0)
    return img.fp.read()


def _to_8_bits(values: np.ndarray, value_range: ValueRange) -> np.ndarray:
    """Map low ... high to 0 ... 255, and what is beyond to the nearer end.

    For 0 ... 2**n - 1 these are the highest 8 of the n bits.

    >>> _to_8_bits(np.array([0, 15, 16, 4080, 4095, 9999]), (0, 4095))
    array([  0,   0,   1, 255, 255, 255], dtype=uint8)
    """
    if not np.isfinite(values).all():
        raise ValueError('some values are not finite')
    low, high = value_range
    scaled = (values.astype(np.float64) - low) * 256 / (high - low)
    return scaled.clip(0, 255).astype(np.uint8)


def _warn_if_dim(rgb: Image.Image, bits: int, name: str) -> None:
    """Warn, once in a process, of an image that uses only its low bits."""
    brightest = max(high for _, high in rgb.getextrema())  # type: ignore
    if brightest <= _DIM and not _dim_files:
        _dim_files.append(name)
        print_log(
            f'{name} declares {bits}-bit values but uses only the low bits: '
            f'its brightest pixel becomes {brightest} of 255. If values have '
            f'fewer bits, {_GIVE_RANGE}; (0, {2**bits - 1}) if they are '
            'right. Other such images are not named.',
            logger='current',
            level=logging.WARNING,
        )
