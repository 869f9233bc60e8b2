"""Say what a file with weights is: whose, of which network, and its parts.

Letters for shapes: K prototypes, D embedding size.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from .keys import convert_state_dict, find_layout, strip_wrappers
from .leave_out import printable

_DEPTHS: dict[tuple[tuple[int, ...], bool], int] = {
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}

# Names that tell other networks, what they are, and what to do with them.
_OTHERS = (
    (
        r'(?:.*\.)?flat_param(?:_\d+)?',
        'one of several shards of a network',
        "join the shards into one file with VISSL's tools",
    ),
    (
        r'(?:.*\.)?(?:res\d|trunk_output)\.block.*',
        'a RegNet',
        'its weights fit no network of this package: give a ResNet',
    ),
    (
        r'(?:.*\.)?(?:cls_token|class_token|pos_embed(?:ding)?)',
        'a vision transformer',
        'its weights fit no network of this package: give a ResNet',
    ),
    (
        r'linear\.weight',
        "a linear classifier without its backbone, as upstream's "
        'eval_linear saves it',
        'give the checkpoint that it was trained on',
    ),
    (
        r'queue',
        'a queue without its network, as upstream saves it',
        'give the checkpoint beside it',
    ),
)


@dataclass(frozen=True)
class Description:
    """What a checkpoint holds.

    Attributes:
        container: 'torch', 'safetensors' or 'pickle' (PaddlePaddle's).
        layout: Whose names it has, such as 'VISSL'; '' if they are unknown.
        network: Such as 'a ResNet-50-w2'.
        has_backbone: True if there are weights of a backbone.
        has_neck: True if there is a projection head.
        prototypes: K and D of each set of prototypes.
        has_queue: True if embeddings of a queue are in it.
        advice: What to do with it if it is not a ResNet; else ''.
    """

    container: str
    layout: str
    network: str
    has_backbone: bool
    has_neck: bool
    prototypes: tuple[tuple[int, ...], ...]
    has_queue: bool
    advice: str

    @property
    def lacks(self) -> list[str]:
        """Return the parts of a SwAV that are missing."""
        parts = dict(
            backbone=self.has_backbone,
            neck=self.has_neck,
            prototypes=bool(self.prototypes),
            queue=self.has_queue,
        )
        return [name for name, is_there in parts.items() if not is_there]

    def __str__(self) -> str:
        """Return it as in 'The file is a VISSL checkpoint of ...'."""
        text = self.network
        if self.layout:
            article = 'an' if self.layout[0] in 'EOu' else 'a'
            text = f'{article} {self.layout} checkpoint of {self.network}'
        if self.advice:  # whose parts are unknown
            return text
        sets = ' + '.join(str(count) for count, _ in self.prototypes)
        *others, last = self.lacks or ['']
        lacking = ' or '.join(filter(None, [', '.join(others), last]))
        text += f' with {sets} prototypes' if sets else ''
        return text + (f', without {lacking}' if lacking else '')


def describe_weights(
    state_dict: Mapping[str, Tensor], container: str = 'torch'
) -> Description:
    """Say what weights are.

    Args:
        state_dict: Names to tensors, as they are in the file.
        container: What they were in.

    >>> print(describe_weights({'queue': Tensor()}))
    a queue without its network, as upstream saves it
    """
    names = [*strip_wrappers(state_dict)]
    weights = convert_state_dict(state_dict)
    backbone = {
        key.removeprefix('backbone.'): value
        for key, value in weights.items()
        if key.startswith('backbone.')
    }
    network, advice = _resnet(backbone), ''
    if not network:
        network, advice = _other(names)
    prototypes = [
        (int(key.split('.')[2]), tuple(value.shape))
        for key, value in weights.items()
        if re.fullmatch(r'head\.prototypes\.\d+\.weight', key)
    ]
    return Description(
        container=container,
        layout=find_layout(names).name,
        network=network,
        has_backbone=any('conv' in name for name in backbone),
        has_neck=any(key.startswith('neck.projection.') for key in weights),
        prototypes=tuple(shape for _, shape in sorted(prototypes)),
        has_queue='queue' in names or 'head.queue.features' in weights,
        advice=advice,
    )


def _resnet(backbone: Mapping[str, Tensor]) -> str:
    """Name a ResNet, such as 'a ResNet-50-w2'; '' for any other network."""
    blocks = [
        {
            key.split('.')[1]
            for key in backbone
            if key.startswith(f'layer{stage}.')
        }
        for stage in range(1, 5)
    ]
    has_bottlenecks = 'layer1.0.conv3.weight' in backbone
    first, stem = (
        backbone.get(key) for key in ('layer1.0.conv1.weight', 'conv1.weight')
    )
    middle = backbone.get('layer1.0.conv2.weight')
    if first is None or middle is None or middle.ndim != 4:
        return ''
    counts = tuple(map(len, blocks))
    depth = _DEPTHS.get((counts, has_bottlenecks))
    name = f'a ResNet-{depth}' if depth else 'a ResNet of unknown depth'
    if middle.shape[1] and len(middle) > middle.shape[1]:
        name += f' with {len(middle) // middle.shape[1]} groups (ResNeXt)'
    if stem is None or stem.ndim != 4:
        return name + ' with another stem'
    width = len(stem) / 64
    if width != 1:
        name += f'-w{width:g}'
    elif len(first) != len(stem):
        name += f' with blocks {len(first) / 64:g} times as wide'
    if stem.shape[2] == 3:
        name += " with CIFAR's 3x3 stem"
    return name


def _other(names: list[str]) -> tuple[str, str]:
    """Name a network that is not a ResNet, and what to do."""
    for pattern, network, advice in _OTHERS:
        if any(re.fullmatch(pattern, name) for name in names):
            return network, advice
    some = ', '.join(map(printable, names[:3]))
    return f'an unknown network ({some}, ...)', 'give a ResNet'
