"""Give weights the names that other libraries have for them.

    parts = split_weights(read_checkpoint('epoch_200.pth'))
    torch.save(to_torchvision(parts), 'resnet50.pth')

`write.write_weights` does so for each library, and checks what it writes.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from .describe import describe_weights
from .file_kind import CheckpointError
from .keys import convert_state_dict

State = dict[str, Tensor]

# What is trained on top of a backbone, beside which some files have it.
_CLASSIFIERS = r'((online_)?classifier|fc|head|(last_)?linear)\.'

# Ends of names of a ResNet, and what detectron2 calls them.
_DETECTRON2_LAYERS = {
    r'conv(\d)\.': r'conv\1.',
    r'bn(\d)\.': r'conv\1.norm.',
    r'downsample\.0\.': 'shortcut.',
    r'downsample\.1\.': 'shortcut.norm.',
}


class Parts(NamedTuple):
    """The weights of a SwAV by part.

    Attributes:
        backbone: Under the backbone's own names, such as 'conv1.weight'.
        neck: The layers of the projection: '0.weight', ...
        prototypes: One (K, D) tensor for each set.
        others: Names of what belongs to none of these, such as a queue.
    """

    backbone: State
    neck: State
    prototypes: list[Tensor]
    others: list[str]


def split_weights(weights: Mapping[str, Tensor]) -> Parts:
    """Divide a state dict of any known layout into the parts of a SwAV.

    Tensors are copied: each is dense, contiguous and alone in its memory.

    Raises:
        CheckpointError: There is no backbone, or a tensor is sparse or
            quantized.
    """
    converted = convert_state_dict(weights)
    backbone = _below('backbone.', converted)
    if 'layer4.0.conv1.weight' in backbone:
        backbone = {
            key: value
            for key, value in backbone.items()
            if not re.match(_CLASSIFIERS, key)
        }
    elif not any('backbone.' in key for key in weights):
        raise _no_resnet(weights)
    neck = _below('neck.projection.', converted)
    sets = {
        key: value
        for key, value in _below('head.prototypes.', converted).items()
        if re.fullmatch(r'\d+\.weight', key)
    }
    parts = Parts(
        plain_copies(backbone),
        plain_copies(neck),
        [*plain_copies(dict(sorted(sets.items(), key=_index))).values()],
        [],
    )
    parts.others.extend(sorted(converted.keys() - to_ours(parts).keys()))
    return parts


def pick_parts(weights: Mapping[str, Tensor], with_head: bool) -> Parts:
    """Return the parts to write: all of them, or the backbone alone.

    Raises:
        CheckpointError: As `split_weights`; or the prototypes have a bias,
            which those of SwAV do not.
    """
    parts = split_weights(weights)
    if not with_head:
        head = [key for key in to_ours(parts) if not key.startswith('back')]
        others = [*head, *parts.others]
        return parts._replace(neck={}, prototypes=[], others=others)
    for name in parts.others:
        if re.fullmatch(r'head\.prototypes\.\d+\.bias', name):
            raise CheckpointError(
                'the prototypes have a bias, which those of SwAV do not; '
                'convert the backbone alone, to mmdet.'
            )
    return parts


def _below(prefix: str, weights: Mapping[str, Tensor]) -> State:
    """Return the tensors whose names begin with `prefix`, without it."""
    return {
        key.removeprefix(prefix): value
        for key, value in weights.items()
        if key.startswith(prefix)
    }


def _index(item: tuple[str, Tensor]) -> int:
    """Return the number that a name begins with."""
    return int(item[0].partition('.')[0])


def plain_copies(weights: State) -> State:
    """Copy each tensor to memory of its own, in the order of its indices."""
    copies = {}
    for name, tensor in weights.items():
        if tensor.layout is not torch.strided or tensor.is_quantized:
            kind = 'quantized' if tensor.is_quantized else 'sparse'
            raise CheckpointError(
                f'{name} is {kind}; give a file of dense, plain weights.'
            )
        copies[name] = tensor.detach().clone(
            memory_format=torch.contiguous_format
        )
    return copies


def _no_resnet(weights: Mapping[str, Tensor]) -> CheckpointError:
    found = describe_weights(weights)
    return CheckpointError(
        'the checkpoint has no backbone that is a ResNet of four stages: it '
        f'is {found.network}' + (f'; {found.advice}.' if found.advice else '.')
    )


def _resnet(parts: Parts) -> State:
    """Return a backbone whose names mean the same to every library.

    Raises:
        CheckpointError: It is not a ResNet, or its stem has more than one
            convolution.
    """
    if 'layer4.0.conv1.weight' not in parts.backbone:
        raise _no_resnet(_prefixed('backbone.', parts.backbone))
    for key in parts.backbone:
        if key.startswith('stem.'):
            raise CheckpointError(
                f'{key} is not in a ResNet with a plain stem.'
            )
    return parts.backbone


def _resnet_with_batch_norm(parts: Parts) -> State:
    """Return a backbone as the projects outside of OpenMMLab build it.

    Raises:
        CheckpointError: As `_resnet`; or it has other norms, whose names
            these do not know.
    """
    backbone = _resnet(parts)
    if 'bn1.running_mean' not in backbone:
        first = [key for key in backbone if '.' not in key.partition('.')[2]]
        raise CheckpointError(
            'this ResNet has no batch norm; the tensors of its stem are '
            f'{", ".join(first)}. Convert it to mmpretrain, mmdet or '
            'safetensors.'
        )
    return backbone


def to_torchvision(parts: Parts) -> State:
    """Return the backbone under torchvision's names, which are timm's too.

    There is no `fc`: SwAV trains none.

    Raises:
        CheckpointError: The backbone is not a ResNet that these build.
    """
    backbone = _resnet_with_batch_norm(parts)
    channels, _, *size = backbone['conv1.weight'].shape
    if channels != 64 or size != [7, 7]:
        raise CheckpointError(
            f'the stem of this ResNet has {channels} channels and a kernel of '
            f'{" x ".join(map(str, size))}; in torchvision and timm it has '
            'always 64, and 7 x 7. Convert it to official, mmpretrain, '
            'safetensors or onnx.'
        )
    return backbone


def to_mmdet(parts: Parts) -> State:
    """Return the backbone under the names of mmdet's and mmseg's ResNet."""
    return _resnet(parts)


def to_detectron2(parts: Parts) -> State:
    """Return the backbone under detectron2's names."""
    return {
        detectron2_key(key): tensor
        for key, tensor in _resnet_with_batch_norm(parts).items()
    }


def detectron2_key(key: str) -> str:
    """Return detectron2's name of a tensor of a ResNet with a plain stem.

    >>> detectron2_key('bn1.weight')
    'stem.conv1.norm.weight'
    >>> detectron2_key('layer4.0.downsample.0.weight')
    'res5.0.shortcut.weight'
    """
    block = re.match(r'layer([1-4])\.(\d+)\.', key)
    where = f'res{int(block[1]) + 1}.{block[2]}.' if block else 'stem.'
    layer = key[block.end() :] if block else key
    for pattern, name in _DETECTRON2_LAYERS.items():
        match = re.match(pattern, layer)
        if match:
            return where + match.expand(name) + layer[match.end() :]
    raise CheckpointError(f'{key} is not in a ResNet with a plain stem.')


def to_mmpretrain(parts: Parts) -> State:
    """Return all parts under the names of mmpretrain's and mmselfsup's SwAV.

    Raises:
        CheckpointError: The neck has no norm, which theirs always has.
    """
    if '2.weight' in parts.neck:
        raise CheckpointError(
            'the neck has no norm after its hidden layer, which that of '
            "mmpretrain's SwAV always has; convert the checkpoint to "
            'official or safetensors, or its backbone to mmdet.'
        )
    # They hold the norm twice: in the projection, and as an attribute.
    norm = {
        f'neck.norm{key[1:]}': tensor
        for key, tensor in parts.neck.items()
        if key.startswith('1.')
    }
    return {
        **_prefixed('backbone.', parts.backbone),
        **_named_neck('neck.projection_neck', parts.neck),
        **norm,
        **_named_prototypes('head.loss_module.prototypes', parts.prototypes),
    }


def to_official(parts: Parts) -> State:
    """Return all parts under the names of facebookresearch/swav's files."""
    state = {
        **_resnet_with_batch_norm(parts),
        **_named_neck('projection_head', parts.neck),
        **_named_prototypes('prototypes', parts.prototypes),
    }
    return _prefixed('module.', state)


def to_ours(parts: Parts) -> State:
    """Return all parts under the names of our `SwAV`."""
    sets = {
        f'{index}.weight': tensor
        for index, tensor in enumerate(parts.prototypes)
    }
    return {
        **_prefixed('backbone.', parts.backbone),
        **_prefixed('neck.projection.', parts.neck),
        **_prefixed('head.prototypes.', sets),
    }


def _prefixed(prefix: str, weights: State) -> State:
    return {prefix + key: tensor for key, tensor in weights.items()}


def _named_neck(name: str, neck: State) -> State:
    """Name the layers of the projection; a single one has no number."""
    if neck.keys() <= {'0.weight', '0.bias'}:
        return _prefixed(f'{name}.', _below('0.', neck))
    return _prefixed(f'{name}.', neck)


def _named_prototypes(name: str, prototypes: list[Tensor]) -> State:
    """Name the sets of prototypes; a single one has no number."""
    if len(prototypes) == 1:
        return {f'{name}.weight': prototypes[0]}
    return {
        f'{name}.prototypes{index}.weight': tensor
        for index, tensor in enumerate(prototypes)
    }


def extract_prefix(
    weights: Mapping[str, Tensor], prefix: str, remove: bool
) -> State:
    """Pick the tensors of one part of a model, under the names in the file.

    Args:
        weights: Names to tensors.
        prefix: The part, such as 'backbone'.
        remove: Cut the prefix and its dot off the names.

    Raises:
        CheckpointError: No name begins with it.

    >>> [*extract_prefix({'a.w': Tensor(), 'b.w': Tensor()}, 'b', True)]
    ['w']
    """
    start = prefix.rstrip('.') + '.'
    picked = _below(start, weights)
    if not picked:
        there = dict.fromkeys(key.partition('.')[0] for key in weights)
        raise CheckpointError(
            f'none of the {len(weights)} tensors is below {prefix!r}; their '
            f'names begin with {", ".join([*there][:12])}.'
        )
    return plain_copies(picked if remove else _prefixed(start, picked))
