"""The names of weights in every known SwAV layout, and ours for them."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .file_kind import CheckpointError

Weights = dict[str, Tensor]

# What wrappers around a network put into the names of its parts.
_WRAPPERS = re.compile(
    r'(?:(?<=\.)|^)(?:module|_orig_mod|_fsdp_wrapped_module|_fpw_module'
    r'|_checkpoint_wrapped_module)\.'
)
_OUTER = re.compile(r'^(?:(?:model|teacher|student)\.)+')


class Layout(NamedTuple):
    """How a project names its weights.

    Attributes:
        name: The project, as in 'a VISSL checkpoint'.
        sign: A pattern for a name that only this layout has.
        rules: The first pattern that matches a name renames it; None drops
            it. A name that none matches stays as it is.
        change: What becomes of the numbers, once they have our names.
    """

    name: str
    sign: str
    rules: Sequence[tuple[str, str | None]]
    change: Callable[[Weights], Weights] = dict


def _from_paddle(weights: Weights) -> Weights:
    """Transpose linear layers, and name statistics as torch does.

    By name, not by shape: many layers are square.
    """
    changed = {}
    linear = re.compile(
        r'(?:neck\.projection\.\d+|head\.prototypes\.\d+'
        r'|(?:.*\.)?(?:fc|linear|fc_cls|projection_head))\.weight'
    )
    for key, value in weights.items():
        if linear.fullmatch(key) and value.ndim == 2:
            value = value.T.contiguous()
        prefix, _, end = key.rpartition('.')
        if end == '_mean':
            key = f'{prefix}.running_mean'
            changed[f'{prefix}.num_batches_tracked'] = torch.tensor(0)
        elif end == '_variance':
            key = f'{prefix}.running_var'
        changed[key] = value
    return changed


def _add_bias(weights: Weights) -> Weights:
    """Give a bias of 0 to linear layers of the neck that have none."""
    biases = {}
    for key, value in weights.items():
        bias = key.removesuffix('weight') + 'bias'
        if re.fullmatch(r'neck\.projection\.\d+\.weight', key):
            if bias not in weights:
                biases[bias] = value.new_zeros(len(value))
    return weights | biases


def _join_norm(weights: Weights) -> Weights:
    """Multiply directions v by their lengths g: W = g * v / |v|, by row."""
    joined = dict(weights)
    for key in weights:
        name, _, end = key.rpartition('.')
        if end == 'weight_v' and f'{name}.weight_g' in weights:
            length = joined.pop(f'{name}.weight_g')
            direction = joined.pop(key)
            norms = direction.norm(dim=1, keepdim=True)
            joined[f'{name}.weight'] = length * direction / norms
    return joined


_PROTOTYPES = [
    (r'prototypes\.(weight|bias)', r'head.prototypes.0.\1'),
    (r'prototypes\.prototypes(\d+)\.weight', r'head.prototypes.\1.weight'),
]
_UPSTREAM = [
    # A single layer, if the number of hidden units is 0.
    (r'projection_head\.(weight|bias)', r'neck.projection.0.\1'),
    (r'projection_head\.(.*)', r'neck.projection.\1'),
    *_PROTOTYPES,
]
_OPENMMLAB = [
    (r'neck\.projection_neck\.(weight|bias)', r'neck.projection.0.\1'),
    (r'neck\.projection_neck\.(.*)', r'neck.projection.\1'),
    (r'neck\.norm\..*', None),  # repeats `projection_neck.1`
    *[
        (rf'head\.(?:loss_module\.|loss\.)?{old}', new)
        for old, new in _PROTOTYPES
    ],
]

# The first whose sign is among the names.
LAYOUTS = (
    Layout(
        'VISSL',
        r'(?:trunk\.)?(?:base_model\.)?_feature_blocks\..*',
        [
            (
                r'(?:trunk\.)?(?:base_model\.)?_feature_blocks\.(.*)',
                r'backbone.\1',
            ),
            (
                r'(?:heads\.)?0\.(?:0\.)?projection_head\.(.*)',
                r'neck.projection.\1',
            ),
            (
                r'(?:heads\.)?0\.(?:0\.)?prototypes(\d+)\.weight',
                r'head.prototypes.\1.weight',
            ),
        ],
        _add_bias,
    ),
    Layout(
        'PASSL (2023)',
        r'res_model\..*\._mean',
        [
            (r'res_model\.encoder\.(.*)', r'backbone.\1'),
            # The classifier of a fine-tuned network.
            (r'res_model\.(projection_head\.(?:weight|bias))', r'\1'),
            *[(rf'res_model\.{old}', new) for old, new in _UPSTREAM],
        ],
        _from_paddle,
    ),
    Layout(
        'PASSL (v1.1.0)',
        r'.*\._mean',
        [*_OPENMMLAB, (r'((?:conv1|bn1|layer\d|fc)\..*)', r'backbone.\1')],
        _from_paddle,
    ),
    Layout(
        'lightly',
        # Its networks are often nn.Sequential(*list(resnet.children())).
        r'projection_head\.layers\..*|prototypes\.(?:heads\.\d+|layers)\..*'
        r'|(?:backbone\.)?4\.0\.conv1\.weight',
        [
            (r'(?:backbone\.)?0\.(.*)', r'backbone.conv1.\1'),
            (r'(?:backbone\.)?1\.(.*)', r'backbone.bn1.\1'),
            *[
                (rf'(?:backbone\.)?{i + 3}\.(.*)', rf'backbone.layer{i}.\1')
                for i in range(1, 5)
            ],
            (r'projection_head\.layers\.(.*)', r'neck.projection.\1'),
            (r'prototypes\.heads\.(.*)', r'head.prototypes.\1'),
            (r'prototypes\.layers\.(.*)', r'head.prototypes.0.\1'),
        ],
        _add_bias,
    ),
    Layout(
        'solo-learn',
        r'projector\..*|prototypes\.weight_v|prototypes\.parametrizations\..*'
        r'|encoder\.conv1\.weight',
        [
            (r'encoder\.(.*)', r'backbone.\1'),
            (r'projector\.(.*)', r'neck.projection.\1'),
            (r'prototypes\.(weight(?:_[gv])?)', r'head.prototypes.0.\1'),
            (r'prototypes\.(\d+\.weight)', r'head.prototypes.\1'),
            # As newer versions of torch name them.
            (
                r'prototypes\.parametrizations\.weight\.original0',
                'head.prototypes.0.weight_g',
            ),
            (
                r'prototypes\.parametrizations\.weight\.original1',
                'head.prototypes.0.weight_v',
            ),
        ],
        _join_norm,
    ),
    Layout(
        'EasyCV',
        r'neck\.(?:fc0|bn0|fc1)\..*',
        [
            (r'neck\.fc0\.(.*)', r'neck.projection.0.\1'),
            (r'neck\.bn0\.(.*)', r'neck.projection.1.\1'),
            (r'neck\.fc1\.(.*)', r'neck.projection.3.\1'),
            *_PROTOTYPES,
        ],
    ),
    Layout(
        'mmselfsup 1.x or mmpretrain',
        r'head\.(?:loss_module|loss)\.prototypes\..*',
        _OPENMMLAB,
    ),
    Layout(
        'mmselfsup',
        r'neck\.projection_neck\..*|head\.prototypes\.(?:weight|prototypes.*)',
        _OPENMMLAB,
    ),
    Layout(
        'swav_plugin',
        r'neck\.projection\..*|head\.prototypes\..*|head\.queue\..*',
        [],
    ),
    Layout(
        'upstream',
        r'projection_head\..*|prototypes\..*',
        [*_UPSTREAM, (r'(?:backbone\.)?(.*)', r'backbone.\1')],
    ),
    Layout('OpenMMLab', r'backbone\..*', []),
    Layout(
        'torchvision or timm',
        r'layer\d+\.\d+\.conv\d+\.weight',
        [(r'(.*)', r'backbone.\1')],
    ),
)
# Anything without a prefix is part of a bare backbone.
UNKNOWN = Layout('', '', [(r'((?!neck\.|head\.).*)', r'backbone.\1')])


def find_layout(names: Sequence[str]) -> Layout:
    """Return the layout with these names of weights, without wrappers."""
    for layout in LAYOUTS:
        sign = re.compile(layout.sign)
        if any(sign.fullmatch(name) for name in names):
            return layout
    return UNKNOWN


def strip_wrappers(state_dict: Mapping[str, Tensor]) -> Weights:
    """Remove from names what DDP, torch.compile and the like put in.

    If a teacher and a student are both there, the teacher is kept, which
    is what authors evaluate.

    Raises:
        CheckpointError: Two tensors would get one name.

    >>> list(strip_wrappers({'model.module.fc._orig_mod.bias': Tensor()}))
    ['fc.bias']
    """
    names = {key: inner_name(key) for key in state_dict}
    if any(name.startswith('teacher.') for name in names.values()):
        names = {
            key: name
            for key, name in names.items()
            if not name.startswith('student.')
        }
    stripped: Weights = {}
    for key, name in names.items():
        name = _OUTER.sub('', name)
        if name in stripped and not torch.equal(
            stripped[name], state_dict[key]
        ):
            raise CheckpointError(
                f'two networks in the file have {name}, with different '
                f'values, one of them as {key}; give the weights of one.'
            )
        stripped[name] = state_dict[key]
    return stripped


def inner_name(key: str) -> str:
    """Return a name without wrappers, from 'teacher.' or 'student.' on."""
    return re.sub(r'^(?:model\.)+', '', _WRAPPERS.sub('', key))


def convert_state_dict(state_dict: Mapping[str, Tensor]) -> Weights:
    """Rename the weights of any known SwAV layout to those of our `SwAV`.

    Args:
        state_dict: Names to tensors in a layout of `LAYOUTS`, e.g. upstream's,
            with or without `module.` in front.

    Returns:
        `backbone.*`, `neck.projection.*` and `head.*`. Keys of other heads,
        such as a classifier's, keep their names. Linear layers of Paddle's
        files are transposed, and prototypes are plain matrices. A bias of
        prototypes that is not 0, which SwAV does not have, is kept as
        `head.prototypes.*.bias`.

    >>> list(convert_state_dict({'module.prototypes.weight': Tensor()}))
    ['head.prototypes.0.weight']
    """
    weights = strip_wrappers(state_dict)
    layout = find_layout([*weights])
    converted = {}
    for key, value in weights.items():
        new_key: str | None = key
        for pattern, name in layout.rules:
            match = re.fullmatch(pattern, key)
            if match:
                new_key = match.expand(name) if name is not None else None
                break
        # The mean and std of a data preprocessor belong to the config.
        if new_key is not None and not key.startswith('data_preprocessor.'):
            converted[new_key] = value
    return {
        key: value
        for key, value in layout.change(converted).items()
        if not re.fullmatch(r'head\.prototypes\.\d+\.bias', key) or value.any()
    }


def backbone_weights(state_dict: Mapping[str, Tensor]) -> Weights:
    """Return the weights of the backbone alone, under its own names.

    Args:
        state_dict: As for `convert_state_dict`.

    >>> list(backbone_weights({'module.conv1.weight': Tensor()}))
    ['conv1.weight']
    """
    prefix = 'backbone.'
    return {
        key.removeprefix(prefix): value
        for key, value in convert_state_dict(state_dict).items()
        if key.startswith(prefix)
    }
