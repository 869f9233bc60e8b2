"""Read an image file into RGB, whatever its kind."""

import io
import os
import struct

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image, UnidentifiedImageError

from swav_plugin.registry import TRANSFORMS

from .encoded_image import read_encoded

# Of a JPEG file: marker and length and, if it is a frame header, bits, height,
# width and number of components.
_SEGMENT = struct.Struct('>BHBHHB')

# Since OpenCV 4.11; older ones leave JPEG files to Pillow.
_CV2_RGB = getattr(cv2, 'IMREAD_COLOR_RGB', None)


class UnreadableImage(RuntimeError):
    """An image file that cannot be turned into RGB pixels.

    Args:
        path: The file.
        reason: What is wrong with it, in words.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f'{self.path}: {self.reason}'


def read_rgb(path: str | os.PathLike) -> np.ndarray:
    """Read an image file as Pillow's convert('RGB') shows it.

    Greyscale, palette and CMYK images become RGB; transparency is dropped,
    not blended. Of 16-bit values the high byte is kept. The EXIF orientation
    is not applied, as upstream does not.

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
    """Decode a plain JPEG file by OpenCV, or give None.

    To Pillow's pixels, since both use libjpeg-turbo, and a quarter faster.
    Left to Pillow are files that do not end as they should: it tells if they
    are cut off, where some versions of OpenCV fill up with grey.
    """
    if _CV2_RGB is None or not _is_plain_jpeg(data):
        return None
    return cv2.imdecode(
        np.frombuffer(data, np.uint8), _CV2_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    )


def _is_plain_jpeg(data: bytes) -> bool:
    """Whether this is a complete JPEG file of 8 bits, in grey or colours.

    And not one of so many pixels that Pillow would have a word to say.
    """
    if not (data.startswith(b'\xff\xd8') and data.endswith(b'\xff\xd9')):
        return False
    place = 2
    while data[place : place + 1] == b'\xff' and place + 10 < len(data):
        marker, length, precision, height, width, components = _SEGMENT.unpack(
            data[place + 1 : place + 10]
        )
        if marker in (0xC0, 0xC1, 0xC2):  # baseline, extended, progressive
            return (
                precision == 8
                and components in (1, 3)
                and height * width <= (Image.MAX_IMAGE_PIXELS or 2**32)
            )
        place += 2 + length
    return False


def to_rgb(img: Image.Image) -> Image.Image:
    """Convert an opened image of any mode to mode RGB."""
    if img.mode.startswith('I'):
        # 16-bit greyscale, which convert('RGB') would clip at 255. Pillow
        # itself keeps the high byte of 16-bit colour images.
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


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Read results['img_path'] into results['img']: (H, W, 3) uint8 RGB.

    How every kind of file becomes RGB, and what is an error: `read_rgb`. An
    image that is there already (`ImageFolder(in_memory=True)`) stays.

    Args:
        decode_on_device: Leave JPEG files as they are where `MultiCrop` has
            on_device=True: the data preprocessor decodes them, on CUDA by
            nvJPEG. Pixels then differ a little, and a file that is damaged
            inside stops the run instead of being replaced.
    """

    def __init__(self, decode_on_device: bool = False) -> None:
        self.decode_on_device = decode_on_device

    def transform(self, results: dict) -> dict:
        """Add 'img', and its size as 'ori_shape' and 'img_shape'."""
        img = results.get('img')
        if img is None and self.decode_on_device:
            img = read_encoded(results['img_path'])
        if img is None:
            img = read_rgb(results['img_path'])
        shape = img.shape[:2]
        return dict(results, img=img, ori_shape=shape, img_shape=shape)
