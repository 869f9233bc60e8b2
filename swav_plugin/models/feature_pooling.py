"""Pool what a backbone returns: to one vector, or over windows for probes.

`pool_output` decides for every use what the vector of an image is. Linear
probes and SVMs see Feature1 to Feature5, feature maps averaged over windows.
Letters for shapes: N images, C channels, h x w pixels of a feature map.
"""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from swav_plugin.compat.moved import moved_names, warn_renamed

from .resnet import ResNetWithStem

__getattr__ = moved_names(__name__)

# mmselfsup's, for images of 224 px: size of the map, then kernel, stride and
# padding of the average. The grids have 12, 6, 4, 3 and 2 windows to a side,
# which makes each feature of a ResNet-50 8,192 or 9,216 numbers wide.
MMSELFSUP_WINDOWS = {
    'feature1': (112, 10, 10, 4),
    'feature2': (56, 16, 8, 0),
    'feature3': (28, 13, 5, 0),
    'feature4': (14, 8, 3, 0),
    'feature5': (7, 6, 1, 0),
}
GRIDS = dict(feature1=12, feature2=6, feature3=4, feature4=3, feature5=2)


class UnfitOutput(ValueError):
    """A backbone gave something that the config cannot use."""


def pool_output(outputs: Any, backbone: Any = None) -> Tensor:
    """Reduce the output of any backbone to one vector for each image.

    - Maps, (N, C, h, w), are averaged over space.
    - Vectors, (N, C), stay as they are.
    - Tokens, (N, tokens, C), of a transformer with out_type='raw' give its
      class token, or their mean if it has none.
    - Of a sequence of these the last counts. If that is a pair of vectors of
      the same width, as a distilled DeiT's class and distillation token, the
      first of the pair does.

    Args:
        outputs: What the backbone returned.
        backbone: The backbone; tokens are refused without it, because only
            it tells the class token from the others.

    Returns:
        (N, C).

    Raises:
        UnfitOutput: The output is none of these.

    >>> import torch
    >>> pool_output([torch.zeros(2, 8, 7, 7), torch.zeros(2, 16, 4, 4)]).shape
    torch.Size([2, 16])
    """
    last = outputs
    if _is_sequence(outputs) and len(outputs):
        last = outputs[-1]
    if _is_pair_of_vectors(last):
        last = last[0]
    # Masked autoencoders return indices of their patches last.
    if isinstance(last, Tensor) and last.is_floating_point():
        if last.dim() == 4:
            return last.mean((2, 3))
        if last.dim() == 2:
            return last
        if last.dim() == 3 and getattr(backbone, 'out_type', None) == 'raw':
            has_class_token = getattr(backbone, 'cls_token', None) is not None
            return last[:, 0] if has_class_token else last.mean(1)
    raise UnfitOutput(
        f'the backbone gave {describe_output(outputs)}, which cannot be '
        'pooled; expected (N, C, h, w) maps or (N, C) vectors. For a '
        "transformer set out_type='cls_token' or 'avg_featmap'."
    )


def _is_sequence(outputs: Any) -> bool:
    return isinstance(outputs, (tuple, list))


def _is_pair_of_vectors(outputs: Any) -> bool:
    """Check for two (N, C) outputs of the same shape."""
    return (
        _is_sequence(outputs)
        and len(outputs) == 2
        and all(isinstance(each, Tensor) for each in outputs)
        and outputs[0].dim() == 2
        and outputs[0].shape == outputs[1].shape
    )


def describe_output(outputs: Any) -> str:
    """Say what a backbone returned, by shapes.

    >>> import torch
    >>> describe_output([torch.zeros(2, 3), (torch.zeros(4).long(), None)])
    '[(2, 3), [(4,) of int64, NoneType]]'
    """
    if isinstance(outputs, Tensor):
        kind = str(outputs.dtype).removeprefix('torch.')
        kind = '' if outputs.is_floating_point() else f' of {kind}'
        return f'{tuple(outputs.shape)}{kind}'
    if _is_sequence(outputs):
        return f'[{", ".join(map(describe_output, outputs))}]'
    return type(outputs).__name__


def pool_feature(maps: Tensor, name: str, grid: int | None = None) -> Tensor:
    """Average a feature map over windows and flatten it.

    Args:
        maps: (N, C, h, w).
        name: 'feature1' to 'feature5'.
        grid: None for `MMSELFSUP_WINDOWS`, which need maps of images of
            224 px. A number for that many windows to a side, on maps of any
            size; `GRIDS` has mmselfsup's numbers.

    Returns:
        (N, C * windows), channel by channel, in mmselfsup's order.

    Raises:
        ValueError: The windows of mmselfsup do not fit the map.

    Source: mmselfsup's MultiPooling, after Goyal et al. (arXiv:1905.01235),
    section 4.

    >>> import torch
    >>> pool_feature(torch.zeros(1, 2048, 7, 7), 'feature5').shape
    torch.Size([1, 8192])
    """
    if grid is not None:
        return F.adaptive_avg_pool2d(maps, grid).flatten(1)
    size, kernel, stride, padding = MMSELFSUP_WINDOWS[name]
    if maps.shape[2:] != (size, size):
        raise ValueError(
            f"{name} is {maps.shape[2]}x{maps.shape[3]}, but mmselfsup's "
            f'windows are for {size}x{size}, the size that images of 224x224 '
            "give. Resize to 224 in the pipeline, or set windows='adaptive' "
            'for the same number of windows on maps of any size.'
        )
    return F.avg_pool2d(maps, kernel, stride, padding).flatten(1)


def check_windows(windows: str) -> str:
    """Return the name of a kind of windows, or refuse an unknown one.

    Args:
        windows: 'mmselfsup' or 'adaptive'; 'page', the old name of
            'mmselfsup', goes on working and warns.

    Raises:
        ValueError: There are no such windows.

    >>> check_windows('adaptive')
    'adaptive'
    """
    if windows == 'page':
        warn_renamed("windows='page'", "'mmselfsup'", stacklevel=3)
        return 'mmselfsup'
    if windows not in ('mmselfsup', 'adaptive'):
        raise ValueError(
            f"got windows={windows!r}; use 'mmselfsup' or 'adaptive'."
        )
    return windows


def check_features(backbone: nn.Module, features: Sequence[str]) -> None:
    """Refuse features that a backbone does not have.

    Args:
        backbone: Any for 'avgpool', a `ResNetWithStem` for the others.
        features: 'avgpool', 'feature1' to 'feature5'.

    Raises:
        ValueError: The backbone does not have one, or there is no such
            name.
    """
    for feature in features:
        if feature == 'avgpool':
            continue
        if feature not in GRIDS:
            raise ValueError(
                f"there is no feature '{feature}'; use 'avgpool', "
                "'feature1', ... or 'feature5'."
            )
        if not isinstance(backbone, ResNetWithStem) or (
            _output_index(feature) not in backbone.out_indices
        ):
            raise ValueError(
                f"'{feature}' needs output {_output_index(feature)} of the "
                "backbone; set model.backbone.type='ResNetWithStem' and "
                'out_indices=(0, 1, 2, 3, 4).'
            )


def pick_feature(
    backbone: Any, outputs: Any, feature: str, windows: str
) -> Tensor:
    """Pool one feature from the outputs of a backbone.

    Args:
        backbone: As for `check_features`.
        outputs: The outputs of the backbone.
        feature: 'avgpool' for `pool_output`, or 'feature1' to 'feature5'.
        windows: 'mmselfsup' for `MMSELFSUP_WINDOWS`, 'adaptive' for `GRIDS`
            on maps of any size.

    Returns:
        (N, C * windows), in the order of `pool_feature`.

    Raises:
        ValueError: The output cannot be pooled.
    """
    if feature == 'avgpool':
        return pool_output(outputs, backbone)
    index = sorted(backbone.out_indices).index(_output_index(feature))
    grid = GRIDS[feature] if windows == 'adaptive' else None
    return pool_feature(outputs[index], feature, grid)


def _output_index(feature: str) -> int:
    """Return which output of a `ResNetWithStem` a feature is."""
    return int(feature.removeprefix('feature')) - 1
