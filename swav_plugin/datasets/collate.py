"""Collate samples into a batch. B: images, V: views.

Views that are cut already are stacked. Whole images, which the device will
cut, have different sizes: their pixels are joined into one long tensor, which
takes one copy from the worker to the device, and `ImageBatch.layout` says
where each image begins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dataset import default_collate
from mmengine.registry import FUNCTIONS
from torch import Tensor

from .transforms.formatting import WholeImage
from .transforms.loading import EncodedImage
from .transforms.view_params import SIZE
from .transforms.worker_memory import new_bytes
from .view_batch import ViewBatch


@dataclass(frozen=True)
class EncodedImages:
    """JPEG files for `decode_images`.

    Not a tuple: `cast_data` and pinning, which move tensors inside of tuples,
    leave it on the host, where decoders want the bytes.
    """

    data: Tensor  # (number of bytes,) uint8, one file after another
    lengths: list[int]  # bytes of each file
    shapes: list[tuple[int, int]]  # (height, width) of each image
    paths: list[str]


class ImageBatch(NamedTuple):
    """B images of any sizes and what to cut out of them.

    `cast_data` and pinning move the tensors and leave the lists on the host,
    where they are needed: they decide the shapes of tensors.
    """

    # (number of pixels, 3) uint8 RGB, one image after another. Those of
    # encoded images come last, and are added when they are decoded.
    pixels: Tensor
    layout: Tensor  # (B, 2) int64: index of the first pixel, pixels in a row
    params: Tensor  # (B, V, NUM_PARAMS) float32, see `view_params`
    sizes: list[tuple[int, int]]  # (height, width) of each image
    view_sizes: list[int]  # of each view, in pixels
    encoded: EncodedImages | None  # for the device to decode


# In mmengine's own registry: that is the only one it searches for them.
@FUNCTIONS.register_module()
def collate_views(
    samples: Sequence[dict[str, Any]], _scope_: str | None = None
) -> dict[str, Any]:
    """Collate samples of `PackViews` into a batch.

    Args:
        samples: Dicts of 'inputs' and 'data_samples', where the inputs are
            views or a whole image; or a `ViewBatch`.
        _scope_: Unused. mmengine passes it if a config inherits from one of
            another package.

    Returns:
        'data_samples', B of them, and 'inputs': V tensors (B, 3, h, w), or
        an `ImageBatch`. In a worker both are written into memory that it
        shares with the main process.
    """
    if isinstance(samples, ViewBatch):
        return dict(inputs=samples.inputs, data_samples=samples.data_samples)
    if not isinstance(samples[0]['inputs'], WholeImage):
        return default_collate(samples)
    return dict(
        inputs=_collate_images([sample['inputs'] for sample in samples]),
        data_samples=[sample['data_samples'] for sample in samples],
    )


def _collate_images(images: list[WholeImage]) -> ImageBatch:
    """Join whole images of any sizes."""
    sizes = [image.pixels.shape[:2] for image in images]
    params = np.stack([image.params for image in images])
    view_sizes = params[..., SIZE].astype(int)
    if (view_sizes != view_sizes[0]).any():
        raise ValueError(
            'collate_views got samples with views of different sizes: '
            f'{np.unique(view_sizes, axis=0).tolist()} px; each view must '
            'have one size in all samples.'
        )
    arrays = [
        image.pixels
        for image in images
        if isinstance(image.pixels, np.ndarray)
    ]
    files = [
        image.pixels
        for image in images
        if isinstance(image.pixels, EncodedImage)
    ]
    return ImageBatch(
        pixels=_join([img.reshape(-1) for img in arrays]).view(-1, 3),
        layout=torch.from_numpy(_layout(images)),
        params=torch.from_numpy(params.astype(np.float32)),
        sizes=sizes,
        view_sizes=view_sizes[0].tolist(),
        encoded=_collate_files(files) if files else None,
    )


def _layout(images: list[WholeImage]) -> np.ndarray:
    """Return the index of the first pixel, and the width, of each image.

    (B, 2) int64. Images keep their order, except that encoded ones come last:
    their pixels are appended when they are decoded.
    """
    shapes = np.array([image.pixels.shape for image in images], np.int64)
    num_pixels = shapes[:, 0] * shapes[:, 1]
    order = np.argsort(
        [isinstance(image.pixels, EncodedImage) for image in images],
        kind='stable',
    )
    layout = np.empty((len(images), 2), np.int64)
    layout[order, 0] = num_pixels[order].cumsum() - num_pixels[order]
    layout[:, 1] = shapes[:, 1]
    return layout


def _collate_files(files: list[EncodedImage]) -> EncodedImages:
    """Join JPEG files."""
    return EncodedImages(
        data=_join([np.frombuffer(file.data, np.uint8) for file in files]),
        lengths=[len(file.data) for file in files],
        shapes=[file.shape[:2] for file in files],
        paths=[file.path for file in files],
    )


def _join(blocks: list[np.ndarray]) -> Tensor:
    """Join (n,) uint8 arrays into one tensor."""
    joined = new_bytes(sum(len(block) for block in blocks))
    if blocks:
        np.concatenate(blocks, out=joined.numpy())
    return joined
