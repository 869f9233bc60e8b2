"""Look at images as a model gets them. V: views."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from swav_plugin.registry import build_transforms, type_name

from .sampler import SampleKey
from .transforms.formatting import WholeImage
from .transforms.loading import read_rgb
from .transforms.view_params import SIZE

_GAP = 4  # pixels


@dataclass(frozen=True)
class SeenImage:
    """An image of a dataset, and what a model gets of it.

    Args:
        index: In the dataset.
        file: Its path, or that of its replacement if it cannot be read; ''
            if it does not come from a file.
        views: V arrays (h, w, 3), uint8 RGB.
    """

    index: int
    file: str
    views: list[np.ndarray]

    def photo(self) -> np.ndarray | None:
        """Return the image, no higher than its views; None without a file."""
        if not self.file:
            return None
        photo = Image.fromarray(read_rgb(self.file))
        photo.thumbnail((photo.width, max(map(len, self.views))))
        return np.asarray(photo)


def browse_views(
    dataset: Any,
    indices: Iterable[int],
    collate: Callable,
    preprocess: Any,
    epoch: int = 0,
    seed: int = 0,
) -> Iterator[SeenImage]:
    """Yield images of a dataset with their views, normalization undone.

    The views have been through the whole pipeline, `collate` and
    `preprocess`, also where the device cuts them. Those of a `KeyedSampler`
    are the very views of that epoch and seed.

    Args:
        dataset: Built from the dataset of a dataloader.
        indices: Which images.
        collate: The `collate_fn` of the dataloader.
        preprocess: The data preprocessor of the model.
        epoch: From 0.
        seed: Of the run.

    Raises:
        ValueError: The views are not pixels once the mean and std of
            `preprocess` are undone: something else normalizes them, too.
    """
    is_bgr = _has_bgr(dataset, preprocess)
    for index in indices:
        sample = dataset[SampleKey(index, epoch, seed)]
        with torch.no_grad():
            batch = preprocess(collate([sample]))
        inputs = batch['inputs']
        views = [inputs] if isinstance(inputs, Tensor) else inputs
        pixels = [to_pixels(view[0], preprocess) for view in views]
        if is_bgr:
            pixels = [each[..., ::-1] for each in pixels]
        meta = batch['data_samples'][0]
        file = getattr(meta, 'img_path', None) or ''
        yield SeenImage(index, file, pixels)


def _has_bgr(dataset: Any, preprocess: Any) -> bool:
    """Return whether channels are in BGR order when a model gets them."""
    pipeline = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    names = [type(transform).__name__ for transform in pipeline]
    # mmcv's and mmdet's loaders give BGR, ours RGB.
    loads_bgr = any(name.startswith('LoadImageFrom') for name in names)
    swaps = any(
        getattr(preprocess, name, False)
        for name in ('_channel_conversion', 'to_rgb')
    )
    return loads_bgr != swaps


def to_pixels(view: Tensor, preprocess: Any) -> np.ndarray:
    """Undo the normalization of a view: (3, h, w) -> (h, w, 3) uint8.

    Channels stay in the order that the model gets.

    Raises:
        ValueError: The result does not lie in 0..255.
    """
    mean, std = (getattr(preprocess, name, None) for name in ('mean', 'std'))
    if isinstance(mean, Tensor) and isinstance(std, Tensor):
        view = view * std.view(-1, 1, 1) + mean.view(-1, 1, 1)
    view = view.float()
    low, high = float(view.min()), float(view.max())
    # Filters with negative weights go beyond 255 a little.
    if low < -1 or high > 256:
        raise ValueError(
            f'the views go from {low:.2f} to {high:.2f} once the mean and std '
            f'of {type(preprocess).__name__} are undone, not from 0 to 255: '
            'does the pipeline normalize them, too? Only the data '
            'preprocessor should.'
        )
    pixels = view.round().clamp(0, 255).to(torch.uint8).cpu()
    return pixels.permute(1, 2, 0).contiguous().numpy()


def spread_evenly(total: int, number: int) -> list[int]:
    """Return the indices of images that are spread evenly over a set.

    >>> spread_evenly(100, 3), spread_evenly(2, 3)
    ([0, 50, 99], [0, 1])
    """
    number = min(total, number)
    return np.linspace(0, total - 1, number).round().astype(int).tolist()


def view_sizes(pipeline: Sequence[dict]) -> list[tuple[int, int]]:
    """Return height and width of the V views that a pipeline gives.

    It runs on an image in memory; no file is read.

    Args:
        pipeline: Configs of transforms; those that load are left out.
    """
    results: Any = dict(
        img=np.full((256, 256, 3), 128, np.uint8),
        img_path='',
        channel_order='rgb',
        sample_idx=SampleKey(0, epoch=0, seed=0),
    )
    for transform in build_transforms(
        [
            each
            for each in pipeline
            if not type_name(each['type']).startswith('Load')
        ]
    ):
        results = transform(results)
    inputs = results['inputs']
    if isinstance(inputs, WholeImage):  # the device cuts it
        return [(int(row[SIZE]), int(row[SIZE])) for row in inputs.params]
    views = [inputs] if isinstance(inputs, Tensor) else inputs
    return [(view.shape[1], view.shape[2]) for view in views]


def side_by_side(
    images: Sequence[np.ndarray], height: int = 128
) -> Image.Image:
    """Put images in a row on white.

    Args:
        images: (h, w, 3) uint8 RGB.
        height: In pixels; if the row is lower, its pixels are enlarged.
    """
    highest = max(map(len, images))
    factor = max(1, round(height / highest))
    enlarged = [
        image.repeat(factor, axis=0).repeat(factor, axis=1) for image in images
    ]
    width = sum(image.shape[1] + _GAP for image in enlarged) - _GAP
    strip = Image.new('RGB', (width, factor * highest), 'white')
    left = 0
    for image in enlarged:
        strip.paste(Image.fromarray(image), (left, 0))
        left += image.shape[1] + _GAP
    return strip
