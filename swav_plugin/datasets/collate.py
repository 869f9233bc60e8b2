"""From samples to a batch. B: images, V: views."""
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dataset import default_collate
from mmengine.registry import FUNCTIONS
from torch import Tensor
from torch.utils.data import get_worker_info

from .transforms.view_params import SIZE
from .transforms.whole_image import WholeImage


class ImageBatch(NamedTuple):
    """B images of any sizes and what to cut out of them.

    `cast_data` and pinning move the tensors and leave the lists on the host,
    where they are wanted: they decide shapes.
    """

    pixels: Tensor  # (number of pixels, 3) uint8 RGB, image after image
    places: Tensor  # (B, 2) int64: first pixel, and pixels in a line
    params: Tensor  # (B, V, NUM_PARAMS) float32, see `view_params`
    sizes: list[tuple[int, int]]  # (height, width) of each image
    view_sizes: list[int]  # side of each view


# Straight into mmengine's: it looks for collate functions there alone.
@FUNCTIONS.register_module()
def collate_views(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Put samples of `PackViews` into a batch.

    Args:
        samples: Dicts of 'inputs' and 'data_samples', with views cut already
            or with whole images whose views the device will cut.

    Returns:
        'data_samples', a list of B, and 'inputs': V tensors (B, 3, h, w), or
        an `ImageBatch`. Workers write both into memory that they share with
        the main process.
    """
    if not isinstance(samples[0]['inputs'], WholeImage):
        return default_collate(samples)
    return dict(
        inputs=_collate_images([sample['inputs'] for sample in samples]),
        data_samples=[sample['data_samples'] for sample in samples])


def _collate_images(images: list[WholeImage]) -> ImageBatch:
    """Write the pixels of all images one after another."""
    sizes = [(height, width) for height, width, _ in (
        image.pixels.shape for image in images)]
    params = np.stack([image.params for image in images])
    view_sizes = params[..., SIZE].astype(int)
    if (view_sizes != view_sizes[0]).any():
        raise ValueError(
            'collate_views got samples with views of different sizes: '
            f'{np.unique(view_sizes, axis=0).tolist()} px; each view has to '
            'be of one size in all samples.')
    num_pixels = np.prod(sizes, axis=1, dtype=np.int64)
    pixels = _empty_block(3 * int(num_pixels.sum())).view(-1, 3)
    np.concatenate([image.pixels.reshape(-1, 3) for image in images],
                   out=pixels.numpy())
    places = np.stack(
        [num_pixels.cumsum() - num_pixels, [width for _, width in sizes]], 1)
    return ImageBatch(
        pixels=pixels,
        places=torch.from_numpy(places),
        params=torch.from_numpy(params.astype(np.float32)),
        sizes=sizes,
        view_sizes=view_sizes[0].tolist())


def _empty_block(num_bytes: int) -> Tensor:
    """Give (num_bytes,) uint8, in shared memory if this is a worker.

    From there the main process takes it without a copy.
    """
    if get_worker_info() is None:
        return torch.empty(num_bytes, dtype=torch.uint8)
    # As torch's own default_collate does.
    storage = torch.UntypedStorage._new_shared(num_bytes)
    return torch.empty(0, dtype=torch.uint8).set_(storage)
