"""Other SwAV checkpoints under our names, and loading that fails loudly.

Known layouts: ours, upstream's released and training files
(`module.conv1.weight`, `projection_head.0.weight`, `prototypes.weight`),
mmselfsup 0.x and 1.x, mmpretrain, and bare backbones.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from .safe_load import safe_load
from .zoo import checkpoint_path

# The first rule that matches a key renames it.
_RULES = [
    # Ours.
    (
        r'(backbone\..*|neck\.projection\..*|head\.prototypes\.\d+\.weight'
        r'|head\.queue\..*)',
        r'\1',
    ),
    # mmselfsup and mmpretrain. `neck.norm` repeats `projection_neck.1`.
    (r'neck\.projection_neck\.(.*)', r'neck.projection.\1'),
    (r'neck\.norm\..*', None),
    (
        r'head\.(?:loss_module\.|loss\.)?prototypes\.weight',
        'head.prototypes.0.weight',
    ),
    (
        r'head\.(?:loss_module\.|loss\.)?prototypes\.prototypes(\d+)\.weight',
        r'head.prototypes.\1.weight',
    ),
    # Upstream.
    (r'projection_head\.(.*)', r'neck.projection.\1'),
    (r'prototypes\.weight', 'head.prototypes.0.weight'),
    (r'prototypes\.prototypes(\d+)\.weight', r'head.prototypes.\1.weight'),
    # The mean and std of a data preprocessor belong to the config.
    (r'data_preprocessor\..*', None),
    # What has no prefix is a bare backbone.
    (r'(?!neck\.|head\.|prototypes|projection_head)(.*)', r'backbone.\1'),
]


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint file without running code from it.

    Args:
        path: A file written by `torch.save`: a state dict, or a dict that
            holds one under 'state_dict'. Also its URL, or the name of a model
            of the zoo, as for `swav_plugin.checkpoints.zoo.checkpoint_path`.

    Returns:
        Names to tensors, as they stand in the file, on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        ConnectionError: If it could not be downloaded.
        ValueError: If the file holds no state dict, or wants to run code.
    """
    checkpoint = safe_load(checkpoint_path(path), 'cpu')
    if isinstance(checkpoint, Mapping):
        checkpoint = checkpoint.get('state_dict', checkpoint)
    if (
        not isinstance(checkpoint, Mapping)
        or not checkpoint
        or not all(isinstance(value, Tensor) for value in checkpoint.values())
    ):
        raise ValueError(
            f'{path} holds no weights; expected names with tensors, or a '
            "dict that has them under 'state_dict'."
        )
    return dict(checkpoint)


def convert_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of any known SwAV layout to those of our `SwAV`.

    Args:
        state_dict: Names to tensors, e.g. upstream's, with or without
            `module.` in front.

    Returns:
        `backbone.*`, `neck.projection.*` and `head.*`. Keys of other heads,
        such as a classifier's, keep their names.

    >>> list(convert_state_dict({'module.prototypes.weight': Tensor()}))
    ['head.prototypes.0.weight']
    """
    converted = {}
    for key, value in state_dict.items():
        key = key.removeprefix('module.')
        new_key: str | None = key
        for pattern, name in _RULES:
            match = re.fullmatch(pattern, key)
            if match:
                new_key = match.expand(name) if name is not None else None
                break
        if new_key is not None:
            converted[new_key] = value
    return converted


def load_model(model: nn.Module, path: str | Path) -> int:
    """Fill every parameter and statistic of a `SwAV` from a checkpoint.

    Queues are not part of it: a checkpoint without one, such as upstream's,
    leaves the queue of the model empty.

    Returns:
        How many tensors were filled.

    Raises:
        ValueError: If a tensor of the model is not in the file or has
            another shape; the message lists both sides.
    """
    weights = convert_state_dict(read_checkpoint(path))
    return _load(model, weights, path, type(model).__name__)


def load_backbone(backbone: nn.Module, path: str | Path) -> int:
    """Fill every tensor of a backbone from a checkpoint of any known layout.

    Returns:
        How many tensors were filled.

    Raises:
        ValueError: If a tensor of the backbone is not in the file or has
            another shape, or a stage of the file has more tensors; the
            message lists both sides.
    """
    name = type(backbone).__name__
    return _load(backbone, _read_backbone(path), path, name)


def load_shared_head(shared_head: nn.Module, path: str | Path) -> int:
    """Fill the stages of a C4 detector's head from a checkpoint's backbone.

    A stage is named `layerN`, as in the backbone that it was cut off from.
    What else the head has, such as one more norm, keeps its values.

    Returns:
        How many tensors were filled.

    Raises:
        ValueError: As `load_backbone`.
    """
    stages = nn.ModuleDict(
        {
            name: stage
            for name, stage in shared_head.named_children()
            if re.fullmatch(r'layer\d', name)
        }
    )
    name = type(shared_head).__name__
    return _load(stages, _read_backbone(path), path, name)


def _read_backbone(path: str | Path) -> dict[str, Tensor]:
    """The backbone's weights in a file of any known layout."""
    converted = convert_state_dict(read_checkpoint(path))
    prefix = 'backbone.'
    return {
        key.removeprefix(prefix): value
        for key, value in converted.items()
        if key.startswith(prefix)
    }


def _load(
    module: nn.Module, weights: dict[str, Tensor], path: str | Path, name: str
) -> int:
    """Copy `weights` into `module` if they fill it, else raise."""
    own = {
        key: value
        for key, value in module.state_dict().items()
        if not key.startswith(('head.queue.', 'data_preprocessor.'))
    }
    # Files from before torch 0.4.1 lack this counter, which SwAV never uses.
    own_required = {
        key: value
        for key, value in own.items()
        if not key.endswith('num_batches_tracked') or key in weights
    }
    missing = sorted(own_required.keys() - weights.keys())
    unused = sorted(weights.keys() - own.keys())
    # Blocks that the model lacks: the file is of a deeper network.
    stages = {stage for stage in map(_stage, own) if stage is not None}
    deeper = [
        key
        for key in unused
        if _stage(key) in stages and not key.endswith('num_batches_tracked')
    ]
    shapes = [
        f'{key} is {tuple(weights[key].shape)} in the file and '
        f'{tuple(value.shape)} in the model'
        for key, value in own_required.items()
        if key in weights and weights[key].shape != value.shape
    ]
    if missing or shapes or deeper:
        raise ValueError(
            f'{path} does not fill the {name}: '
            f'{len(missing)} tensors are not in the file'
            f'{_some(missing)}, {len(shapes)} have another shape'
            f'{_some(shapes)}; {len(unused)} tensors of the file have no '
            f'place in the model{_some(deeper or unused)}. Check that the '
            'file is of this architecture, depth and width.'
        )
    module.load_state_dict({k: weights[k] for k in own_required}, strict=False)
    return len(own_required)


def _stage(key: str) -> str | None:
    """The stage of a ResNet that a tensor is in.

    >>> _stage('backbone.layer3.22.conv1.weight'), _stage('fc.weight')
    ('layer3', None)
    """
    match = re.match(r'(?:backbone\.)?(layer\d)\.', key)
    return match[1] if match else None


def _some(names: list[str], limit: int = 8) -> str:
    """The first names in brackets, with a count of the rest."""
    if not names:
        return ''
    rest = f', and {len(names) - limit} more' if len(names) > limit else ''
    return f' ({", ".join(names[:limit])}{rest})'
