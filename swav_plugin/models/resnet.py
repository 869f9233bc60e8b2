"""ResNetWithStem: a ResNet whose stem is an output too.

It gives Feature1 to Feature5. Letters for shapes: N images, C channels,
h x w pixels of an output.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mmpretrain.models import ResNet
from mmpretrain.models.backbones.resnet import Bottleneck
from torch import Tensor

from swav_plugin.registry import MODELS


@MODELS.register_module()
class ResNetWithStem(ResNet):
    """mmpretrain's ResNet with the stem as output 0 and stages as 1 to 4.

    Parameters, their names and the outputs of the stages are mmpretrain's, so
    any of its checkpoints fits. The stem's output is taken after its
    activation and before the max-pooling.

    Args:
        depth: 18, 34, 50, 101 or 152.
        out_indices: Which outputs: 0 is the stem (Feature1), i is stage i
            (Feature i + 1). mmselfsup counts the same way; mmpretrain's own
            `ResNet` has no stem and starts at 0 with the first stage.
        **kwargs: Further arguments of mmpretrain's `ResNet`.

    Raises:
        ValueError: An output does not exist.
    """

    def __init__(
        self,
        depth: int,
        out_indices: Sequence[int] = (0, 1, 2, 3, 4),
        **kwargs: Any,
    ) -> None:
        num_stages = kwargs.get('num_stages', 4)
        if not out_indices or not set(out_indices) <= {*range(num_stages + 1)}:
            raise ValueError(
                f'ResNetWithStem got out_indices={tuple(out_indices)}; with '
                f'num_stages={num_stages} outputs are 0 (the stem) to '
                f'{num_stages} (the last stage).'
            )
        super().__init__(depth, out_indices=(num_stages - 1,), **kwargs)
        self.out_indices = tuple(out_indices)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the chosen outputs: (N, 3, H, W) -> (N, C, h, w) each."""
        outputs = stem_and_stages(self, images)
        # In the order of the network, as mmpretrain's, not of `out_indices`.
        return tuple(
            output for i, output in enumerate(outputs) if i in self.out_indices
        )


def stem_and_stages(backbone: ResNet, images: Tensor) -> list[Tensor]:
    """Run any of mmpretrain's ResNets; return the maps of stem and stages.

    The stem's are taken after its activation and before the max-pooling,
    which networks for CIFAR do not have.
    """
    if backbone.deep_stem:
        maps = backbone.stem(images)
    else:
        maps = backbone.relu(backbone.norm1(backbone.conv1(images)))
    outputs = [maps]
    if hasattr(backbone, 'maxpool'):
        maps = backbone.maxpool(maps)
    for name in backbone.res_layers:
        maps = getattr(backbone, name)(maps)
        outputs.append(maps)
    return outputs


def resnet_arguments(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """Find out which ResNet weights belong to.

    Args:
        weights: The weights of a backbone by name: 'conv1.weight',
            'layer1.0.conv1.weight', ...

    Returns:
        `depth`, `stem_channels` and `base_channels` for mmpretrain's `ResNet`.

    Raises:
        ValueError: They belong to something else.
    """
    blocks = [
        sorted(
            {
                int(key.split('.')[1])
                for key in weights
                if key.startswith(f'layer{stage}.')
            }
        )
        for stage in range(1, 5)
    ]
    has_bottlenecks = 'layer1.0.conv3.weight' in weights
    for depth, (block, counts) in ResNet.arch_settings.items():
        if (
            blocks == [[*range(count)] for count in counts]
            and has_bottlenecks == (block is Bottleneck)
            and 'conv1.weight' in weights
        ):
            return dict(
                depth=depth,
                stem_channels=len(weights['conv1.weight']),
                base_channels=len(weights['layer1.0.conv1.weight']),
            )
    raise ValueError(
        'these are not the weights of a ResNet with depth '
        f'{", ".join(map(str, ResNet.arch_settings))} and a stem of one '
        f'convolution: {len(weights)} tensors such as '
        f'{", ".join(list(weights)[:3])}.'
    )


def resnet_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Find the config of the ResNet that weights belong to.

    A 7x7 convolution at the start is the stem of ImageNet; a 3x3 one is that
    of CIFAR: stride 1, and no max-pooling.

    Args:
        weights: As for `resnet_arguments`.

    Raises:
        ValueError: They belong to something else.
    """
    arguments = resnet_arguments(weights)
    size = tuple(weights['conv1.weight'].shape[2:])
    types = {(7, 7): 'ResNet', (3, 3): 'ResNet_CIFAR'}
    if size not in types:
        raise ValueError(
            f'conv1.weight has a kernel of {size}; the stem of ImageNet has '
            '7x7, that of CIFAR 3x3.'
        )
    return dict(type=types[size], norm_cfg=dict(type='BN'), **arguments)
