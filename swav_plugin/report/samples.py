"""Take a few images of a training set, and see them as the model does.

Letters for shapes: N images, C channels of a feature, D embedding size, V
views.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dataset import Compose
from PIL import Image
from torch import Tensor

from swav_plugin.datasets import SampleKey, collate_views
from swav_plugin.datasets.transforms.loading import UnreadableImage
from swav_plugin.engine.errors import UsageError
from swav_plugin.inference.batches import Extraction, run_batches
from swav_plugin.inference.cluster_output import NamedImages, name_images
from swav_plugin.inference.gallery import address_of
from swav_plugin.inference.images import list_images
from swav_plugin.models.swav_neck import SwAVNeck
from swav_plugin.registry import build_transforms

_BATCH = 16  # the time is looked at after each


class Sample(NamedTuple):
    """Images of a set, evenly spread over it.

    Attributes:
        samples: What a pipeline starts from, of each.
        images: Their files, with names and classes. Where there are none, as
            in CIFAR-10, an address that holds the pixels is the file.
        total: How many images the set has.
    """

    samples: list[dict[str, Any]]
    images: NamedImages
    total: int


def sample_files(source: str, most: int) -> Sample:
    """Take images of a folder, a pattern or a list.

    Raises:
        OSError, ValueError: As `list_images`.
    """
    samples = list_images(source)
    named = name_images([each['img_path'] for each in samples], source)
    chosen = spread(len(samples), most)
    return Sample(
        [samples[i] for i in chosen], pick(named, chosen), len(samples)
    )


def sample_dataset(dataset: Any, most: int) -> Sample:
    """Take images of a training set.

    Raises:
        UsageError: It does not say where its images are.
    """
    while hasattr(dataset, 'dataset'):  # mmengine's RepeatDataset
        dataset = dataset.dataset
    samples = []
    for index in spread(len(dataset), most):
        info = dict(dataset.get_data_info(index))
        info.pop('slot', None)  # in the memory of this process
        samples.append(info)
    if not all('img_path' in each or 'img' in each for each in samples):
        raise UsageError(
            f'{type(dataset).__name__} gives neither img_path nor img; name '
            'a folder with --images'
        )
    files = [
        each['img_path'] if 'img_path' in each else _address(each['img'])
        for each in samples
    ]
    roots = getattr(dataset, 'roots', None) or [
        getattr(dataset, 'data_root', None)
    ]
    names = [
        _name(each, index, [str(root) for root in roots if root])
        for index, each in enumerate(samples)
    ]
    classes = _classes(samples, dataset.metainfo.get('classes') or ())
    return Sample(samples, NamedImages(files, names, classes), len(dataset))


def spread(total: int, most: int) -> list[int]:
    """Choose indices evenly, in an order of which each part is spread, too.

    >>> spread(9, 3)
    [8, 0, 4]
    """
    chosen = np.linspace(0, total - 1, min(total, most)).round().astype(int)
    return np.random.default_rng(0).permutation(chosen).tolist()


def pick(images: NamedImages, indices: Sequence[int]) -> NamedImages:
    """Return some of the images."""
    classes = images.classes
    return NamedImages(
        [images.files[i] for i in indices],
        [images.names[i] for i in indices],
        None if classes is None else [classes[i] for i in indices],
    )


def _address(pixels: Any) -> str:
    """Return (H, W, 3) uint8 RGB as an address that holds it."""
    return address_of(Image.fromarray(np.asarray(pixels)).convert('RGB'))


def _name(sample: dict[str, Any], index: int, roots: list[str]) -> str:
    """Name an image by its path below the folder that it was found in."""
    if 'img_path' not in sample:
        return f'image {sample.get("sample_idx", index)}'
    path = os.fspath(sample['img_path'])
    for root in roots:
        if path.startswith(os.path.join(root, '')):
            return os.path.relpath(path, root)
    return path


def _classes(
    samples: list[dict[str, Any]], names: Sequence[str]
) -> list[str] | None:
    """Return the class of each image; None if there are no two of them."""
    labels = [each.get('gt_label') for each in samples]
    if not all(isinstance(each, (int, np.integer)) for each in labels):
        return None
    if len({*labels}) < 2:
        return None
    return [
        str(names[label]) if label < len(names) else f'class {label}'
        for label in map(int, labels)  # type: ignore[arg-type]
    ]


def build_pipeline(cfg: Any) -> Callable[[dict], Any]:
    """Build what makes views of an image in training.

    Raises:
        UsageError: The config has none.
    """
    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    if not dataset.get('pipeline'):
        raise UsageError('the config has no train_dataloader.dataset.pipeline')
    return Compose(build_transforms(dataset['pipeline']))


def draw_views(
    pipeline: Callable[[dict], Any],
    preprocessor: Any,
    samples: Sequence[dict[str, Any]],
    seed: int,
    most: int,
) -> Iterator[tuple[int, list[Image.Image]]]:
    """Yield the views that a network gets of an image in its first epoch.

    They went through the preprocessor, whose normalization is undone, so what
    it cuts or changes on the device is seen, too.

    Args:
        pipeline: From `build_pipeline`.
        preprocessor: The `data_preprocessor` of the model.
        samples: As in a `Sample`; those that cannot be read are left out.
        seed: Of the run.
        most: How many images.

    Yields:
        The index of a sample, and its V views.
    """
    for index, sample in enumerate(samples):
        if most <= 0:
            return
        key = SampleKey(int(sample.get('sample_idx', index)), 0, seed)
        try:
            packed = pipeline(dict(sample, sample_idx=key))
        except UnreadableImage:
            continue
        inputs = preprocessor(collate_views([packed]))['inputs']
        views = [inputs] if isinstance(inputs, Tensor) else inputs
        most -= 1
        yield index, [_to_image(view[0], preprocessor) for view in views]


def _to_image(view: Tensor, preprocessor: Any) -> Image.Image:
    """Undo the normalization of (3, h, w) floats."""
    pixels = view.float().cpu()
    mean, std = (getattr(preprocessor, each, None) for each in ('mean', 'std'))
    if mean is not None and std is not None:
        pixels = pixels * std.float().cpu() + mean.float().cpu()
    if getattr(preprocessor, '_channel_conversion', False):  # it gives BGR
        pixels = pixels.flip(0)
    array = pixels.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return Image.fromarray(array)


class Features(NamedTuple):
    """What a network makes of N images.

    Attributes:
        indices: Of the images among those of the `Sample`, by their names.
        pooled: (N, C) features of the backbone.
        embeddings: (N, D) of unit norm; None without a neck.
        unreadable: Why others are not here.
    """

    indices: list[int]
    pooled: Tensor
    embeddings: Tensor | None
    unreadable: list[str]


@torch.no_grad()
def compute_features(
    model: Any, sample: Sample, seconds: float | None = None
) -> Features:
    """Compute features of as many images as there is time for.

    Args:
        model: In eval mode.
        sample: Images, of which each part is evenly spread.
        seconds: Stop after this time; None for all of them.

    Raises:
        UsageError: None of the images can be read.
    """
    job = Extraction(sample.samples, batch_size=_BATCH, skip_unreadable=True)
    end = None if seconds is None else time.monotonic() + seconds
    indices: list[int] = []
    rows, unreadable = [], []
    with closing(run_batches(model, job, job.batches())) as batches:  # type: ignore[type-var]
        for batch, features in batches:
            indices += [i for i in batch.indices if i not in batch.unreadable]
            unreadable += [str(error) for error in batch.unreadable.values()]
            if len(features):
                rows.append(features)
            if end is not None and time.monotonic() > end:
                break
    if not rows:
        raise UsageError(f'no image can be read, such as {unreadable[0]}')
    pooled = torch.cat(rows)
    names = [sample.images.names[i] for i in indices]
    order = sorted(range(len(names)), key=names.__getitem__)
    pooled = pooled[torch.tensor(order, device=pooled.device)]
    neck = getattr(model, 'neck', None)
    embeddings = None
    if isinstance(neck, SwAVNeck) and pooled.shape[1] == neck.in_channels:
        embeddings = neck(pooled).cpu()
    return Features(
        [indices[i] for i in order], pooled.cpu(), embeddings, unreadable
    )
