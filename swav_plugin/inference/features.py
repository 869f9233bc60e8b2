"""Compute features of images with a pretrained network.

Letters for shapes: N images, B of them in a batch, C channels of a feature,
D embedding size, K prototypes.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmpretrain.models import ResNet
from torch import Tensor, nn
from torch.utils.data import DataLoader

from swav_plugin.compat.moved import renamed_arguments
from swav_plugin.datasets.transforms.loading import UnreadableImage
from swav_plugin.engine.processes import count_cores
from swav_plugin.engine.shared_memory import too_little_in_one_line
from swav_plugin.evaluation.feature_store import check_finite
from swav_plugin.models.feature_pooling import (
    GRIDS,
    MMSELFSUP_WINDOWS,
    pool_feature,
    pool_output,
)
from swav_plugin.models.resnet import stem_and_stages
from swav_plugin.models.swav_head import SwAVHead
from swav_plugin.models.swav_neck import SwAVNeck

from .images import Batch, Images, LoadedImages, file_of, list_images

LAYERS = ('avgpool', *GRIDS, 'embedding', 'scores')

_FEW_IMAGES = 256  # are loaded before worker processes have started
_MAX_UNREADABLE = 0.1  # share of the images


class ImageFeatures(NamedTuple):
    """Features of N images and where each image came from.

    Attributes:
        features: (N, C) float32, on the CPU.
        files: N paths; '' for an image that did not come from a file.
    """

    features: Tensor
    files: list[str]


@dataclass(frozen=True)
class Extraction:
    """What to compute of which images.

    Args:
        samples: Of `list_images`.
        layer: One of `LAYERS`.
        size: Height and width of the crop in pixels.
        batch_size: Images per forward pass.
        amp: Run the network in half precision.
        skip_unreadable: Leave out images that cannot be read.
    """

    samples: list[dict[str, Any]]
    layer: str = 'avgpool'
    size: int = 224
    batch_size: int = 64
    amp: bool = False
    skip_unreadable: bool = False

    def batches(self) -> list[range]:
        """Return the images of each batch."""
        num = len(self.samples)
        return [
            range(start, min(start + self.batch_size, num))
            for start in range(0, num, self.batch_size)
        ]


@renamed_arguments(image_size='size')
def extract_features(
    model: nn.Module,
    images: Images,
    layer: str = 'avgpool',
    size: int = 224,
    batch_size: int = 64,
    num_workers: int | None = None,
    progress: bool = False,
    amp: bool = False,
    skip_unreadable: bool = False,
) -> ImageFeatures:
    """Compute features of images.

    Images are loaded as in the kNN benchmark: converted to RGB, the short
    edge resized to 8/7 of `size` (256 px for 224), then center-cropped.

    Args:
        model: From `get_model`, or any model in eval mode with a `backbone`
            and a `data_preprocessor`, such as a `SwAV`.
        images: A folder, which is searched at any depth; an image file; a
            pattern such as 'a/**/*.jpg'; a .txt list of files; a PIL image;
            an (H, W, 3) uint8 RGB array; or a list of these.
        layer: 'avgpool', the averaged output of the backbone, C = 2,048 for a
            ResNet-50; 'feature1' to 'feature5', the stem and the stages of a
            ResNet, averaged over windows as in the benchmarks; of a `SwAV`
            also 'embedding', (N, D) of unit norm, and 'scores', (N, K)
            cosines with the prototypes, one set after another.
        size: Height and width of the crop in pixels.
        batch_size: Images per forward pass.
        num_workers: Processes that load images; 0 to load them in this one.
            By default 0 for few images or on a small CPU, up to 8 beside a
            GPU.
        progress: Show how far it is.
        amp: Run the network in half precision: float16 on a GPU, bfloat16 on
            a CPU.
        skip_unreadable: Leave out images that cannot be read, and log them,
            in place of an error; more than a tenth are an error all the same.

    Returns:
        Features (N, C) and the N file names, in the order of the list; those
        of a folder or a pattern are sorted by path.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        UnreadableImage: An image cannot be read; the message names the file.
        ValueError: There are no images, an array is not (H, W, 3) uint8, the
            model lacks the layer or is in training mode, or features are not
            finite.
        TypeError: An element of `images` is something else.
    """
    check_layer(model, layer)
    job = Extraction(
        list_images(images), layer, size, batch_size, amp, skip_unreadable
    )
    rows, unreadable = [], {}
    for batch, features in run_batches(
        model, job, job.batches(), num_workers=num_workers
    ):
        rows.append(features.cpu())
        unreadable.update(batch.unreadable)
        check_unreadable(job, unreadable)
    log_unreadable(job, unreadable)
    return ImageFeatures(
        torch.cat([each for each in rows if len(each)]),
        [
            file_of(sample)
            for index, sample in enumerate(job.samples)
            if index not in unreadable
        ],
    )


def check_layer(model: nn.Module, layer: str) -> None:
    """Check that a model is ready and has a layer.

    Raises:
        ValueError: It does not, or is in training mode.
    """
    if layer not in LAYERS:
        raise ValueError(
            f'there is no layer {layer!r}; use one of {", ".join(LAYERS)}.'
        )
    if model.training:
        raise ValueError(
            'the model is in training mode, where batch norm mixes the images '
            'of a batch; call model.eval() first.'
        )
    backbone = getattr(model, 'backbone', None)
    if layer in GRIDS and not isinstance(backbone, ResNet):
        raise ValueError(
            f'layer {layer!r} is of ResNets, but the backbone is a '
            f"{type(backbone).__name__}; use layer 'avgpool'."
        )
    parts: dict[str, dict[str, type]] = dict(
        embedding=dict(neck=SwAVNeck),
        scores=dict(neck=SwAVNeck, head=SwAVHead),
    )
    for name, kind in parts.get(layer, {}).items():
        if not isinstance(getattr(model, name, None), kind):
            raise ValueError(
                f'layer {layer!r} needs a SwAV model with its {name}, but '
                f'this {type(model).__name__} has none: give a checkpoint of '
                "a whole SwAV, or use layer 'avgpool'."
            )


@torch.no_grad()
def run_batches(
    model: Any,
    job: Extraction,
    batches: Sequence[Sequence[int]],
    num_workers: int | None = None,
    num_processes: int = 1,
) -> Iterator[tuple[Batch, Tensor]]:
    """Yield each batch and its features, (B, C) float32 on the device.

    Args:
        model: As for `extract_features`.
        job: What to compute.
        batches: Indices of images; a batch gives the same features wherever
            and beside whichever other batches it is computed.
        num_workers: As for `extract_features`.
        num_processes: How many processes like this one share the machine.

    Raises:
        UnreadableImage: An image cannot be read and is not to be skipped.
        ValueError: Features are not finite.
    """
    dataset = LoadedImages(job.samples, job.size)
    device = next(
        (each.device for each in model.parameters()), torch.device('cpu')
    )
    if num_workers is None:
        num_workers = _default_workers(
            sum(map(len, batches)), device, num_processes
        )
    loader = DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=dataset.collate,
        pin_memory=device.type == 'cuda',
        # Leave torch's random numbers alone.
        generator=torch.Generator(),
    )
    with (
        too_little_in_one_line(),
        _leave_cores(device, num_workers, num_processes),
    ):
        for batch in loader:
            if batch.unreadable and not job.skip_unreadable:
                raise next(iter(batch.unreadable.values()))
            if not len(batch.images):
                yield batch, torch.empty(0, 0)
                continue
            inputs = model.data_preprocessor(dict(inputs=batch.images))
            with torch.autocast(
                device.type,
                torch.bfloat16 if device.type == 'cpu' else torch.float16,
                enabled=job.amp,
            ):
                features = compute_layer(model, inputs['inputs'], job.layer)
            features = features.float()
            files = [
                file_of(job.samples[index])
                for index in batch.indices
                if index not in batch.unreadable
            ]
            check_finite(features, 'float32', job.layer, files)
            yield batch, features


def compute_layer(model: Any, images: Tensor, layer: str) -> Tensor:
    """Compute a layer of normalized images: (B, 3, H, W) -> (B, C).

    The windows of 'feature1' to 'feature5' are mmselfsup's on images of
    224 px, and as many adaptive ones on any other.
    """
    backbone = model.backbone
    if layer in GRIDS:
        maps = stem_and_stages(backbone, images)[[*GRIDS].index(layer)]
        side = MMSELFSUP_WINDOWS[layer][0]
        fits = maps.shape[2:] == (side, side)
        return pool_feature(maps, layer, None if fits else GRIDS[layer])
    outputs = backbone(images)
    if layer == 'avgpool':
        return pool_output(outputs, backbone)
    embeddings = model.neck(model.neck.pool(outputs))
    if layer == 'embedding':
        return embeddings
    with torch.autocast(images.device.type, enabled=False):
        return torch.cat(
            [
                # As in `SwAVHead.predict`.
                F.linear(embeddings, F.normalize(prototypes.weight, dim=1))
                for prototypes in model.head.prototypes
            ],
            dim=1,
        )


def check_unreadable(
    job: Extraction, unreadable: dict[int, UnreadableImage]
) -> None:
    """Check that few enough images of all cannot be read.

    Raises:
        ValueError: They are more than a tenth.
    """
    num = len(job.samples)
    if len(unreadable) > _MAX_UNREADABLE * num:
        raise ValueError(
            f'{len(unreadable):,} of {num:,} images cannot be read, more than '
            f'the {_MAX_UNREADABLE:.0%} that are left out: '
            f'{"; ".join(map(str, [*unreadable.values()][:3]))}.'
        )


def log_unreadable(
    job: Extraction, unreadable: dict[int, UnreadableImage]
) -> None:
    """Log which images cannot be read and were left out."""
    if unreadable:
        print_log(
            f'{len(unreadable):,} of {len(job.samples):,} images cannot be '
            'read and are left out:\n'
            + '\n'.join(map(str, unreadable.values())),
            logger='current',
        )


def _default_workers(
    num_images: int, device: torch.device, num_processes: int
) -> int:
    """Return how many workers keep up with a network.

    Elsewhere than on Linux a worker runs the user's script once more.
    """
    cores = count_cores() // num_processes
    if num_images <= _FEW_IMAGES or sys.platform != 'linux':
        return 0
    if device.type == 'cpu':
        return cores // 8  # loading takes an eighth of the time at most
    return min(8, cores)


@contextmanager
def _leave_cores(
    device: torch.device, num_workers: int, num_processes: int
) -> Iterator[None]:
    """Give torch the CPU cores that workers and other processes leave."""
    before = torch.get_num_threads()
    if device.type == 'cpu' and 'OMP_NUM_THREADS' not in os.environ:
        cores = count_cores() // num_processes - num_workers
        torch.set_num_threads(max(1, min(before, cores)))
    try:
        yield
    finally:
        torch.set_num_threads(before)
