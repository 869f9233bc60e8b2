"""Read an image file into RGB, whatever its kind."""

import io
import math
import os
import struct
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image, UnidentifiedImageError

from swav_plugin.registry import TRANSFORMS

from .pillow_files import ValueRange, open_file, open_image, to_rgb

# A segment of a JPEG file: marker and length and, if it is a frame header,
# bits, height, width and number of components.
_SEGMENT = struct.Struct('>BHBHHB')

# Since OpenCV 4.11; older ones leave JPEG files to Pillow.
_CV2_RGB = getattr(cv2, 'IMREAD_COLOR_RGB', None)


class UnreadableImage(RuntimeError):
    """An image file that cannot be turned into RGB pixels.

    Args:
        path: The file.
        reason: A description of the fault.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f'{self.path}: {self.reason}'


def read_rgb(
    path: str | os.PathLike, value_range: ValueRange | None = None
) -> np.ndarray:
    """Read an image file as Pillow's convert('RGB') shows it.

    Grayscale, palette and CMYK images become RGB; transparency is dropped,
    not blended. 16-bit values keep their high byte, and in general values of
    more than 8 bits their highest 8. The EXIF orientation is not applied, in
    any format, as in upstream. `pillow_files` has the rules.

    Args:
        path: The file.
        value_range: As in `LoadImage`.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UnreadableImage: The file is missing, empty, truncated, damaged, not
            an image, has values of unknown range or bands that are not
            colors, or is of a kind that Pillow misreads.
    """
    try:
        with open_file(path) as file:
            data = file.read()
        pixels = _decode_jpeg(data)
        if pixels is not None:
            return pixels
        with open_image(io.BytesIO(data)) as img:
            return np.array(to_rgb(img, value_range, os.fspath(path)))
    except MemoryError:
        raise
    # Pillow's decoders raise nearly anything on damaged files.
    except Exception as error:
        raise UnreadableImage(os.fspath(path), _reason(path, error)) from error


def _decode_jpeg(data: bytes) -> np.ndarray | None:
    """Decode a plain JPEG file with OpenCV; return None for any other file.

    The pixels are Pillow's, since both use libjpeg-turbo, and it takes a
    quarter less time. Pillow gets files that do not end as they should: it
    tells if they are cut off, where some versions of OpenCV fill up with gray.
    """
    if _CV2_RGB is None or not _is_plain_jpeg(data):
        return None
    return cv2.imdecode(
        np.frombuffer(data, np.uint8), _CV2_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    )


def _is_plain_jpeg(data: bytes) -> bool:
    """Check that this is a complete 8-bit JPEG file, gray or in color.

    And that it has no more pixels than Pillow accepts without a warning.
    """
    if not (data.startswith(b'\xff\xd8') and data.endswith(b'\xff\xd9')):
        return False
    offset = 2
    while data[offset : offset + 1] == b'\xff' and offset + 10 < len(data):
        marker, length, precision, height, width, components = _SEGMENT.unpack(
            data[offset + 1 : offset + 10]
        )
        if marker in (0xC0, 0xC1, 0xC2):  # baseline, extended, progressive
            return (
                precision == 8
                and components in (1, 3)
                and height * width <= (Image.MAX_IMAGE_PIXELS or 2**32)
            )
        offset += 2 + length
    return False


def _reason(path: str | os.PathLike, error: Exception) -> str:
    """Say in words why a file could not be read."""
    if isinstance(error, UnidentifiedImageError):
        if os.path.getsize(path) == 0:
            return 'the file is empty'
        with open(path, 'rb') as file:
            if file.read(4) in (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+'):
                return 'a TIFF of a kind that Pillow cannot read'
        return 'not an image of a format that is read'
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f'{error}' or type(error).__name__


@dataclass(frozen=True)
class EncodedImage:
    """A JPEG file for the device to decode, with the shape it will have."""

    path: str
    data: bytes
    shape: tuple[int, int, int]  # H, W, 3

    dtype = np.dtype(np.uint8)
    ndim = 3

    @property
    def size(self) -> int:
        """Number of values, as of an array."""
        return self.shape[0] * self.shape[1] * 3

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError(self._message())

    def __getitem__(self, index: Any) -> np.ndarray:
        raise TypeError(self._message())

    def __getattr__(self, name: str) -> Any:
        # Python asks for methods of its own, before there is a path, too.
        raise AttributeError(
            name
            if name[0] == '_' or 'path' not in vars(self)
            else self._message()
        )

    def _message(self) -> str:
        return (
            f'{self.path} is not decoded yet, since LoadImage has '
            'decode_on_device=True, but a transform needs its pixels. Set '
            'on_device=True in MultiCrop, or decode_on_device=False.'
        )


def read_encoded(path: str | os.PathLike) -> EncodedImage | None:
    """Read a JPEG file that all decoders show alike; None for any other.

    Those are complete 8-bit files, gray or in the usual colors. `read_rgb`
    knows what to do with others: CMYK, RGB inside, cut off, bytes after the
    end, not a JPEG file, not there.
    """
    try:
        with open_file(path) as file:
            data = file.read()
        with open_image(io.BytesIO(data), ['JPEG']) as img:
            if not data.endswith(b'\xff\xd9') or not _has_usual_colors(img):
                return None
            return EncodedImage(
                os.fspath(path), data, (img.height, img.width, 3)
            )
    except Exception:  # anything, on damaged files
        return None


def _has_usual_colors(img: Any) -> bool:
    """Check that an opened JPEG file holds luma, or luma and chroma."""
    if img.mode != 'RGB':
        return img.mode == 'L'
    names = [component[0] for component in img.layer]
    return img.info.get('adobe_transform', 1) == 1 and names != list(b'RGB')


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Read results['img_path'] into results['img']: (H, W, 3) uint8 RGB.

    results['channel_order'] is 'rgb' then, which transforms ask for.

    `read_rgb` says how each kind of file becomes RGB and what is an error. An
    image that is there already (`ImageFolder(in_memory=True)`) stays.

    Args:
        decode_on_device: Leave JPEG files encoded if `MultiCrop` has
            on_device=True: the data preprocessor decodes them, with nvJPEG on
            CUDA. Pixels then differ a little, and a file that is damaged
            inside stops the run instead of being replaced.
        value_range: Lowest and highest value of images with more than 8 bits
            for a value, which become black and white, such as (0, 4095) for
            the 12 bits of a camera. None for what the type of the values can
            hold: 0 to 65535 for 16 bits. Without it, values of unknown range
            are an error: floating-point and negative ones. Files that say
            what their largest value is (JPEG 2000, PGM and PPM) keep it.

    Raises:
        ValueError: `value_range` is not two numbers in ascending order.
    """

    def __init__(
        self,
        decode_on_device: bool = False,
        value_range: ValueRange | None = None,
    ) -> None:
        if value_range is not None:
            is_pair = (
                isinstance(value_range, (list, tuple))
                and len(value_range) == 2
                and all(isinstance(end, (int, float)) for end in value_range)
            )
            if not (
                is_pair
                and -math.inf < value_range[0] < value_range[1] < math.inf
            ):
                raise ValueError(
                    f'LoadImage got value_range={value_range!r}; give the '
                    'lowest and the highest value, such as (0, 4095).'
                )
        self.decode_on_device = decode_on_device
        self.value_range = value_range

    def transform(self, results: dict) -> dict:
        """Add 'img', its order, and its height and width under two names."""
        img = results.get('img')
        if img is not None:
            check_rgb(results, 'LoadImage')
        if img is None and self.decode_on_device:
            img = read_encoded(results['img_path'])
        if img is None:
            img = read_rgb(results['img_path'], self.value_range)
        shape = img.shape[:2]
        return dict(
            results,
            img=img,
            channel_order='rgb',
            ori_shape=shape,
            img_shape=shape,
        )


def check_rgb(results: dict, name: str) -> None:
    """Raise ValueError unless results['img'] is known to be RGB.

    `LoadImage` sets results['channel_order']. Arrays that come from no file,
    such as those of CIFAR-10, are RGB.

    Args:
        results: What the transforms so far gave.
        name: Who needs RGB.
    """
    order = results.get('channel_order')
    if order != 'rgb' and (order is not None or results.get('img_path')):
        says = f'says {order!r}' if order else 'does not say its channel order'
        raise ValueError(
            f'{name} takes RGB images, but the loader of '
            f"{results.get('img_path')} {says}; mmcv's LoadImageFromFile "
            "gives BGR. Use dict(type='LoadImage'), or set "
            "results['channel_order'] = 'rgb' in a loader of your own that "
            'gives RGB.'
        )
