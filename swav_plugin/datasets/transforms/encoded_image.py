"""JPEG files that workers read and the device decodes."""

import io
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class EncodedImage:
    """A file in place of its pixels, with the shape that they will have."""

    path: str
    data: bytes
    shape: tuple[int, int, int]  # H, W, 3

    dtype = np.dtype(np.uint8)
    ndim = 3

    @property
    def size(self) -> int:
        """Number of values."""
        return self.shape[0] * self.shape[1] * 3

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError(self._message())

    def __getitem__(self, index: Any) -> np.ndarray:
        raise TypeError(self._message())

    def __getattr__(self, name: str) -> Any:
        # Python looks for methods of its own, also before there is a path.
        raise AttributeError(
            name
            if name[0] == '_' or 'path' not in vars(self)
            else self._message()
        )

    def _message(self) -> str:
        return (
            f'{self.path} is not decoded yet, since LoadImage has '
            'decode_on_device=True, but a transform wants its pixels. Set '
            'on_device=True in MultiCrop, or decode_on_device=False.'
        )


def read_encoded(path: str | os.PathLike) -> EncodedImage | None:
    """Read a JPEG file that any decoder shows alike, or give None.

    These are complete files of 8 bits, in grey or in the usual colours. For
    others (CMYK, RGB inside, cut off, bytes behind the end, not JPEG, not
    there) `read_rgb` knows what to do.
    """
    try:
        with open(path, 'rb') as file:
            data = file.read()
        with Image.open(io.BytesIO(data), formats=['JPEG']) as img:
            if not data.endswith(b'\xff\xd9') or not _is_usual(img):
                return None
            return EncodedImage(
                os.fspath(path), data, (img.height, img.width, 3)
            )
    except Exception:  # anything, on damaged files
        return None


def _is_usual(img: Any) -> bool:
    """Whether an opened JPEG file holds luma, or luma and chroma."""
    if img.mode != 'RGB':
        return img.mode == 'L'
    names = [component[0] for component in img.layer]
    return img.info.get('adobe_transform', 1) == 1 and names != list(b'RGB')
