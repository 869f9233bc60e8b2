"""What the use of a network needs to know and its weights do not say.

`CheckpointHook` writes it into `meta` of each checkpoint as plain numbers,
and `get_model` reads it there.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from numbers import Real
from typing import Any

from swav_plugin.shipped import TOOLS

from .file_kind import CheckpointError

KEY = 'model_settings'  # in `meta`, and in the metadata of safetensors

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class ModelSettings:
    """How images become inputs of a network, and its scores become codes.

    Attributes:
        mean: Mean of each channel in 0..255.
        std: Standard deviation of each channel in 0..255.
        channel_order: 'RGB' or 'BGR': the order that the network takes, and
            that of `mean` and `std`.
        size: Height and width in pixels of the center crop.
        resize: Pixels of the short edge before the crop.
        epsilon: Entropy weight of Sinkhorn.
        num_iters: Sweeps of Sinkhorn.
        temperature: Temperature of the softmax over prototypes.

    The defaults are those of SwAV on ImageNet: red has 0.228 * 255 where
    torchvision has 0.229 * 255.
    """

    mean: Channels = (123.675, 116.28, 103.53)
    std: Channels = (58.14, 57.12, 57.375)
    channel_order: str = 'RGB'
    size: int = 224
    resize: int = 256
    epsilon: float = 0.05
    num_iters: int = 3
    temperature: float = 0.1

    def at(self, size: int | None) -> 'ModelSettings':
        """Return them with another crop, and an edge in proportion to it."""
        if size is None:
            return self
        return replace(
            self, size=size, resize=round(size * self.resize / self.size)
        )

    def to_plain(self) -> dict[str, Any]:
        """Return numbers, lists and text only, for `meta`."""
        return json.loads(json.dumps(asdict(self)))

    def __str__(self) -> str:
        """Return what the images become, in one line."""
        mean, std = (
            ' '.join(f'{value:.6g}' for value in values)
            for values in (self.mean, self.std)
        )
        return (
            f'{self.channel_order} with mean {mean} and std {std}, short edge '
            f'resized to {self.resize} px, center crop of {self.size} px'
        )


def read_settings(meta: Any, source: object) -> ModelSettings | None:
    """Return the settings in the `meta` of a checkpoint.

    Args:
        meta: A dict as in a checkpoint, or the metadata of a safetensors
            file, where all is text.
        source: For the message.

    Returns:
        None if there are none, as in files of other projects.

    Raises:
        CheckpointError: They are not such numbers.

    >>> read_settings({KEY: ModelSettings(size=32).to_plain()}, 'a').size
    32
    """
    found = meta.get(KEY) if isinstance(meta, Mapping) else None
    if found is None:
        return None
    try:
        if isinstance(found, str):
            found = json.loads(found)
        return _checked(found)
    except (ValueError, LookupError, TypeError, RecursionError):
        raise CheckpointError(
            f'{source}: what it says of its images ({KEY} in meta) is '
            f'damaged; write it again with {TOOLS}/model_converters/'
            'publish_model.py, or give a checkpoint of the same run.'
        ) from None


def _checked(found: Any) -> ModelSettings:
    """Make settings of numbers in their range; any other is an error."""
    mean, std = (
        tuple(_number(value, low) for value in found[name])
        for name, low in (('mean', -math.inf), ('std', 0.0))
    )
    if len(mean) != 3 or len(std) != 3:
        raise ValueError('not three channels')
    if found['channel_order'] not in ('RGB', 'BGR'):
        raise ValueError('no such order')
    size, resize, num_iters = (
        int(_number(found[name], 0.0))
        for name in ('size', 'resize', 'num_iters')
    )
    if not 1 <= size <= resize <= 2**14 or not 1 <= num_iters <= 10**6:
        raise ValueError('out of range')
    return ModelSettings(
        mean,
        std,
        found['channel_order'],
        size,
        resize,
        _number(found['epsilon'], 0.0),
        num_iters,
        _number(found['temperature'], 0.0),
    )


def _number(value: Any, above: float) -> float:
    """Return a finite number that is larger than another."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f'{value!r} is not a number')
    if not math.isfinite(value) or value <= above:
        raise ValueError(f'{value} is out of range')
    return float(value)
