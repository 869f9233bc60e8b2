"""Decode the JPEG files of a batch on its device: with nvJPEG on CUDA.

The reference is `read_rgb`, on the CPU. Promised: the same pixels on a CPU;
nvJPEG upsamples the colors in its own way.
"""

from collections.abc import Sequence

import torch
import torchvision
from mmengine.utils import digit_version
from torch import Tensor

from ..collate import ImageBatch


def decode_images(batch: ImageBatch) -> ImageBatch:
    """Decode the files of a batch and append their pixels to the others.

    Raises:
        RuntimeError: A file cannot be decoded; the message names it.
    """
    encoded = batch.encoded
    if encoded is None:
        return batch
    images = _decode(
        encoded.data.split(encoded.lengths), encoded.paths, batch.pixels.device
    )
    for path, shape, img in zip(encoded.paths, encoded.shapes, images):
        if img.shape[1:] != shape:
            raise RuntimeError(
                f'{path} has {tuple(img.shape[1:])} pixels, but its header '
                f'says {shape}; remove it or set decode_on_device=False.'
            )
    pixels = [img.permute(1, 2, 0).reshape(-1, 3) for img in images]
    return batch._replace(
        pixels=torch.cat([batch.pixels, *pixels]), encoded=None
    )


def _decode(
    files: Sequence[Tensor], paths: Sequence[str], device: torch.device
) -> list[Tensor]:
    """Decode files to (3, h, w) uint8 each."""
    if digit_version(torchvision.__version__) < digit_version('0.20'):
        raise RuntimeError(
            'decode_on_device=True needs torchvision >= 0.20 but this is '
            f'{torchvision.__version__}; update it or leave the option out.'
        )
    # Not at the top: torchvision >= 0.29 warns that it will drop them one day.
    from torchvision.io import ImageReadMode, decode_jpeg

    try:
        return decode_jpeg(list(files), ImageReadMode.RGB, device)
    except RuntimeError:
        # torchvision does not say which of the files it is.
        for file, path in zip(files, paths):
            try:
                decode_jpeg(file, ImageReadMode.RGB, device)
            except RuntimeError as error:
                raise RuntimeError(
                    f'{path} cannot be decoded on {device}: {error}. Remove '
                    'it or set decode_on_device=False in LoadImage.'
                ) from None
        raise
