"""What a plan is for, and what it holds."""

import math
from dataclasses import dataclass, field
from typing import Any

from ..errors import UsageError

MIN_IMAGES = 128  # four batches of the smallest size
MIN_SHORT_EDGE = 16


@dataclass(frozen=True)
class Situation:
    """What is to be planned for.

    Args:
        num_images: Images to train on.
        gpus: GPUs; 0 for a CPU.
        memory_gb: Memory of each GPU, or of the machine for a CPU.
        num_classes: Classes expected, None if unknown.
        hours: Time there is, None for as long as it takes.
        short_edge: Height or width of the images, whichever is smaller.
        mean_pixels: Pixels of an image; None if the images were not seen.
        is_gray: Images have no colors.
        cores: CPU cores; None if unknown, of another machine with GPUs.
        folder: The images, None if they were not seen.
    """

    num_images: int
    gpus: int
    memory_gb: float
    num_classes: int | None = None
    hours: float | None = None
    short_edge: int = 224
    mean_pixels: float | None = None
    is_gray: bool = False
    cores: int | None = None
    folder: str | None = None


@dataclass
class Plan:
    """The numbers decided so far, each with its reason and source.

    `warnings` are what the user should know before starting it.
    """

    situation: Situation
    values: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def decide(self, name: str, value: Any, reason: str) -> None:
        """Note a number and why it was chosen."""
        self.values[name] = value
        self.reasons[name] = reason

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def kind(self) -> str:
        """'cpu', 'tiny' (images), 'small' or 'large' (set)."""
        return self['kind']

    @property
    def total_batch(self) -> int:
        """Images of one batch, on all devices."""
        return self['batch_size'] * max(1, self.situation.gpus)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of the optimizer in an epoch."""
        batches = self.situation.num_images // self.total_batch
        return max(1, batches // self['accumulation'])


def check_situation(s: Situation) -> None:
    """Refuse a set that nothing can be learned from.

    Raises:
        UsageError: It is too small, or its images are; or a number is not
            possible.
    """
    for option, value, least in (
        ('--gpus', s.gpus, 0),
        ('--classes', s.num_classes, 2),
    ):
        if value is not None and value < least:
            raise UsageError(f'{option} {value}: give {least} or more')
    for option, number in (('--memory', s.memory_gb), ('--hours', s.hours)):
        if number is not None and not 0 < number < math.inf:
            raise UsageError(f'{option} {number:g}: give a number above 0')
    if s.num_images < MIN_IMAGES:
        raise UsageError(
            f'{s.num_images} images are too few to pretrain on: SwAV needs '
            f'{MIN_IMAGES} to form batches, and learns little from under '
            '1,000; take a pretrained network instead: swav zoo list'
        )
    if s.num_classes is not None and s.num_classes > s.num_images:
        raise UsageError(
            f'--classes {s.num_classes:,} are more than the images, '
            f'{s.num_images:,}; say about how many kinds of things they show'
        )
    if s.short_edge < MIN_SHORT_EDGE:
        raise UsageError(
            f'at least a quarter of the images are only {s.short_edge} px '
            f'high or wide; crops need {MIN_SHORT_EDGE} px: enlarge the '
            'images first'
        )
