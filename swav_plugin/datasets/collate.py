"""From samples to a batch. B: images, V: views."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dataset import default_collate
from mmengine.registry import FUNCTIONS
from torch import Tensor
from torch.utils.data import get_worker_info

from .transforms.encoded_image import EncodedImage
from .transforms.view_params import SIZE
from .transforms.whole_image import WholeImage


@dataclass(frozen=True)
class EncodedImages:
    """JPEG files for `decode_images`.

    Not a tuple: `cast_data` and pinning leave it on the host, where decoders
    take it from.
    """

    data: Tensor  # (number of bytes,) uint8, file after file
    lengths: list[int]  # bytes of each file
    shapes: list[tuple[int, int]]  # (height, width) of each image
    paths: list[str]


class ImageBatch(NamedTuple):
    """B images of any sizes and what to cut out of them.

    `cast_data` and pinning move the tensors and leave the lists on the host,
    where they are wanted: they decide shapes.
    """

    # (number of pixels, 3) uint8 RGB, image after image. Those of encoded
    # images are still missing, at the end.
    pixels: Tensor
    places: Tensor  # (B, 2) int64: first pixel, and pixels in a line
    params: Tensor  # (B, V, NUM_PARAMS) float32, see `view_params`
    sizes: list[tuple[int, int]]  # (height, width) of each image
    view_sizes: list[int]  # side of each view
    encoded: EncodedImages | None  # those that the device is to decode


# Straight into mmengine's: it looks for collate functions there alone.
@FUNCTIONS.register_module()
def collate_views(
    samples: Sequence[dict[str, Any]], _scope_: str | None = None
) -> dict[str, Any]:
    """Put samples of `PackViews` into a batch.

    Args:
        samples: Dicts of 'inputs' and 'data_samples', with views cut already
            or with whole images whose views the device will cut.
        _scope_: Unused; mmengine passes it on where a config builds on one of
            another package.

    Returns:
        'data_samples', a list of B, and 'inputs': V tensors (B, 3, h, w), or
        an `ImageBatch`. Workers write both into memory that they share with
        the main process.
    """
    if not isinstance(samples[0]['inputs'], WholeImage):
        return default_collate(samples)
    return dict(
        inputs=_collate_images([sample['inputs'] for sample in samples]),
        data_samples=[sample['data_samples'] for sample in samples],
    )


def _collate_images(images: list[WholeImage]) -> ImageBatch:
    """Write the pixels of all images one after another."""
    sizes = [
        (height, width)
        for height, width, _ in (image.pixels.shape for image in images)
    ]
    params = np.stack([image.params for image in images])
    view_sizes = params[..., SIZE].astype(int)
    if (view_sizes != view_sizes[0]).any():
        raise ValueError(
            'collate_views got samples with views of different sizes: '
            f'{np.unique(view_sizes, axis=0).tolist()} px; each view has to '
            'be of one size in all samples.'
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
        places=torch.from_numpy(_places(images)),
        params=torch.from_numpy(params.astype(np.float32)),
        sizes=sizes,
        view_sizes=view_sizes[0].tolist(),
        encoded=_collate_files(files) if files else None,
    )


def _places(images: list[WholeImage]) -> np.ndarray:
    """First pixel and width of each image, (B, 2); encoded ones come last."""
    shapes = np.array([image.pixels.shape for image in images], np.int64)
    num_pixels = shapes[:, 0] * shapes[:, 1]
    order = np.argsort(
        [isinstance(image.pixels, EncodedImage) for image in images],
        kind='stable',
    )
    places = np.empty((len(images), 2), np.int64)
    places[order, 0] = num_pixels[order].cumsum() - num_pixels[order]
    places[:, 1] = shapes[:, 1]
    return places


def _collate_files(files: list[EncodedImage]) -> EncodedImages:
    """Write files one after another."""
    return EncodedImages(
        data=_join([np.frombuffer(file.data, np.uint8) for file in files]),
        lengths=[len(file.data) for file in files],
        shapes=[file.shape[:2] for file in files],
        paths=[file.path for file in files],
    )


def _join(blocks: list[np.ndarray]) -> Tensor:
    """Join (n,) uint8 arrays into one.

    In a worker it lies in shared memory, from where the main process takes it
    without a copy.
    """
    num_bytes = sum(len(block) for block in blocks)
    if get_worker_info() is None:
        joined = torch.empty(num_bytes, dtype=torch.uint8)
    else:
        # As torch's own default_collate does.
        storage = torch.UntypedStorage._new_shared(num_bytes)
        joined = torch.empty(0, dtype=torch.uint8).set_(storage)
    if blocks:
        np.concatenate(blocks, out=joined.numpy())
    return joined
