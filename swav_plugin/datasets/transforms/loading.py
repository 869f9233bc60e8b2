"""Read an image file into RGB, whatever its kind."""

import io
import os
import struct
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image, UnidentifiedImageError

from swav_plugin.registry import TRANSFORMS

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


def read_rgb(path: str | os.PathLike) -> np.ndarray:
    """Read an image file as Pillow's convert('RGB') shows it.

    Grayscale, palette and CMYK images become RGB; transparency is dropped,
    not blended. 16-bit values keep their high byte. The EXIF orientation is
    not applied, as in upstream.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UnreadableImage: The file is missing, empty, truncated, damaged, not
            an image, or has values of unknown range.
    """
    try:
        with open(path, 'rb') as file:
            data = file.read()
        pixels = _decode_jpeg(data)
        if pixels is not None:
            return pixels
        with Image.open(io.BytesIO(data)) as img:
            return np.array(to_rgb(img))
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


def to_rgb(img: Image.Image) -> Image.Image:
    """Convert an opened image of any mode to mode RGB."""
    if img.mode.startswith('I'):
        # 16-bit grayscale, which convert('RGB') would clip at 255. Pillow
        # itself keeps the high byte of 16-bit color images.
        values = np.asarray(img)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError('integer values outside 0 ... 65535')
        img = Image.fromarray((values >> 8).astype(np.uint8))
    elif img.mode == 'F':
        raise ValueError('floating point values have no known range')
    elif img.mode == 'P' and 'transparency' in img.info:
        img = img.convert('RGBA')  # straight to RGB, Pillow would warn
    return img if img.mode == 'RGB' else img.convert('RGB')


def _reason(path: str | os.PathLike, error: Exception) -> str:
    """Say in words why a file could not be read."""
    if isinstance(error, UnidentifiedImageError):
        if os.path.getsize(path) == 0:
            return 'the file is empty'
        return 'not an image of a format that Pillow knows'
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
        with open(path, 'rb') as file:
            data = file.read()
        with Image.open(io.BytesIO(data), formats=['JPEG']) as img:
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

    `read_rgb` says how each kind of file becomes RGB and what is an error. An
    image that is there already (`ImageFolder(in_memory=True)`) stays.

    Args:
        decode_on_device: Leave JPEG files encoded if `MultiCrop` has
            on_device=True: the data preprocessor decodes them, with nvJPEG on
            CUDA. Pixels then differ a little, and a file that is damaged
            inside stops the run instead of being replaced.
    """

    def __init__(self, decode_on_device: bool = False) -> None:
        self.decode_on_device = decode_on_device

    def transform(self, results: dict) -> dict:
        """Add 'img', and its height and width as 'ori_shape', 'img_shape'."""
        img = results.get('img')
        if img is None and self.decode_on_device:
            img = read_encoded(results['img_path'])
        if img is None:
            img = read_rgb(results['img_path'])
        shape = img.shape[:2]
        return dict(results, img=img, ori_shape=shape, img_shape=shape)
