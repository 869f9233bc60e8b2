"""Run a network over images, batch by batch.

Letters for shapes: B images of a batch, C channels of a feature.
"""

import logging
import os
import sys
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor
from torch.utils.data import DataLoader

from swav_plugin.checkpoints.model_settings import ModelSettings
from swav_plugin.datasets.transforms.loading import UnreadableImage
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.processes import count_cores
from swav_plugin.engine.shared_memory import (
    lost_workers_in_one_line,
    workers_that_fit,
)
from swav_plugin.evaluation.feature_store import check_finite

from .images import Batch, LoadedImages, file_of
from .layers import compute_layer

_FEW_IMAGES = 256  # are loaded before worker processes have started
_MAX_UNREADABLE = 0.1  # share of the images


@dataclass(frozen=True)
class Extraction:
    """What to compute of which images.

    Args:
        samples: As `list_images` gives them.
        layer: One of `LAYERS`.
        size: Height and width of the crop in pixels; None for that of the
            model.
        batch_size: Images per forward pass.
        amp: Run the network in half precision.
        skip_unreadable: Leave out images that cannot be read.

    Raises:
        ValueError: A number is out of range.
    """

    samples: list[dict[str, Any]]
    layer: str = 'avgpool'
    size: int | None = None
    batch_size: int = 64
    amp: bool = False
    skip_unreadable: bool = False

    def __post_init__(self) -> None:
        for name in ('size', 'batch_size'):
            value = getattr(self, name)
            if name == 'size' and value is None:  # that of the network
                continue
            if not isinstance(value, Integral) or value < 1:
                raise ValueError(
                    f'got {name}={value!r}; give a whole number, 1 or more.'
                )

    def batches(self, begin: int = 0, end: int | None = None) -> list[range]:
        """Return the images of each batch, or of those of `begin` to `end`."""
        num = len(self.samples)
        end = num if end is None else min(end, num)
        return [
            range(start, min(start + self.batch_size, num))
            for start in range(begin, end, self.batch_size)
        ]


def settings_of(model: Any, size: int | None = None) -> ModelSettings:
    """Return how a model's images are prepared.

    Args:
        model: From `get_model`, which knows it; any other model takes images
            as SwAV on ImageNet does.
        size: Another height and width of the crop.
    """
    return getattr(model, 'model_settings', ModelSettings()).at(size)


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
    settings = settings_of(model, job.size)
    dataset = LoadedImages(job.samples, settings.size, settings.resize)
    device = next(
        (each.device for each in model.parameters()), torch.device('cpu')
    )
    if num_workers is None:
        num_workers = _default_workers(
            sum(map(len, batches)), device, num_processes
        )
        batch_bytes = 3 * settings.size**2 * job.batch_size
        num_workers = workers_that_fit(num_workers, batch_bytes)
    loader = DataLoader(
        dataset,
        batch_sampler=[[*batch] for batch in batches],
        num_workers=num_workers,
        collate_fn=dataset.collate,
        pin_memory=device.type == 'cuda',
        # Leave torch's random numbers alone.
        generator=torch.Generator(),
    )
    precision = (
        torch.autocast(
            device.type,
            torch.bfloat16 if device.type == 'cpu' else torch.float16,
        )
        if job.amp
        else nullcontext()
    )
    with (
        lost_workers_in_one_line(),
        _leave_cores(device, num_workers, num_processes),
    ):
        for batch in loader:
            if batch.unreadable and not job.skip_unreadable:
                raise next(iter(batch.unreadable.values()))
            if not len(batch.images):
                yield batch, torch.empty(0, 0)
                continue
            inputs = model.data_preprocessor(dict(inputs=batch.images))
            with precision:
                features = compute_layer(model, inputs['inputs'], job.layer)
            features = features.float()
            files = [
                file_of(job.samples[index])
                for index in batch.indices
                if index not in batch.unreadable
            ]
            check_finite(features, 'float32', job.layer, files)
            yield batch, features


def check_unreadable(
    job: Extraction, unreadable: dict[int, UnreadableImage], before: int = 0
) -> None:
    """Check that few enough images of all cannot be read.

    Args:
        job: The images.
        unreadable: Those that cannot be read, as far as they are known.
        before: How many more there are.

    Raises:
        UsageError: They are more than a tenth.
    """
    num, num_unreadable = len(job.samples), before + len(unreadable)
    if unreadable and num_unreadable > _MAX_UNREADABLE * num:
        raise UsageError(
            f'{num_unreadable:,} of {num:,} images cannot be read, more than '
            f'the {_MAX_UNREADABLE:.0%} that may be left out: '
            f'{"; ".join(map(str, [*unreadable.values()][:3]))}'
        )


def files_of(job: Extraction, unreadable: Container[int] = ()) -> list[str]:
    """Return the paths of the images that can be read."""
    return [
        file_of(sample)
        for index, sample in enumerate(job.samples)
        if index not in unreadable
    ]


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
            level=logging.WARNING,
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
        return cores // 8  # loading takes less than an eighth of the time
    return min(16, cores)


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
