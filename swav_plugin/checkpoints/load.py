"""Fill models from checkpoints of any known layout, or fail loudly."""

import re
from pathlib import Path

from torch import Tensor, nn

from swav_plugin.compat.moved import renamed_arguments

from .checkpoint import Checkpoint
from .describe import Description, describe_weights
from .keys import backbone_weights, convert_state_dict
from .leave_out import printable
from .training_state import check_finite


@renamed_arguments(path='checkpoint')
def load_model(model: nn.Module, checkpoint: str | Path | Checkpoint) -> int:
    """Fill every parameter and statistic of a `SwAV` from a checkpoint.

    Queues are not part of it: a checkpoint without one, such as upstream's,
    leaves the queue of the model empty.

    Returns:
        The number of tensors filled.

    Raises:
        ValueError: A tensor of the model is not in the file or has a
            different shape, which the message lists on both sides, and says
            what the file is; or it is not finite; or the prototypes have a
            bias.
    """
    checkpoint = _open(checkpoint)
    weights = convert_state_dict(checkpoint.weights)
    for key in weights:
        if re.fullmatch(r'head\.prototypes\.\d+\.bias', key):
            raise ValueError(
                f'{checkpoint} has prototypes with a bias, as lightly trains '
                'them, and scores of SwAV are without one; load its backbone '
                'alone, with load_backbone or --pretrained.'
            )
    return _load(model, weights, checkpoint, type(model).__name__)


@renamed_arguments(path='checkpoint')
def load_backbone(
    backbone: nn.Module,
    checkpoint: str | Path | Checkpoint,
    dry_run: bool = False,
) -> int:
    """Fill every tensor of a backbone from a checkpoint.

    Args:
        backbone: A ResNet, say.
        checkpoint: A state dict in any layout of `checkpoints.keys`.
        dry_run: Only check that it would fill the backbone.

    Returns:
        The number of tensors filled.

    Raises:
        ValueError: A tensor of the backbone is not in the file or has another
            shape, or a stage of the file has more tensors, which the message
            lists on both sides; or a tensor is not finite.
    """
    checkpoint = _open(checkpoint)
    weights = backbone_weights(checkpoint.weights)
    name = type(backbone).__name__
    return _load(backbone, weights, checkpoint, name, dry_run)


@renamed_arguments(path='checkpoint')
def load_shared_head(
    shared_head: nn.Module,
    checkpoint: str | Path | Checkpoint,
    dry_run: bool = False,
) -> int:
    """Fill the stages of a C4 detector's head from a checkpoint's backbone.

    A stage is named `layerN`, as in the backbone that it was cut off from.
    Whatever else the head has, such as one more norm, keeps its values.

    Args, returns and raises are those of `load_backbone`.
    """
    stages = nn.ModuleDict(
        {
            name: stage
            for name, stage in shared_head.named_children()
            if re.fullmatch(r'layer\d', name)
        }
    )
    checkpoint = _open(checkpoint)
    weights = backbone_weights(checkpoint.weights)
    name = type(shared_head).__name__
    return _load(stages, weights, checkpoint, name, dry_run)


def _open(checkpoint: str | Path | Checkpoint) -> Checkpoint:
    """Return a `Checkpoint` as it is, and make one of a source."""
    if isinstance(checkpoint, Checkpoint):
        return checkpoint
    return Checkpoint(checkpoint)


def _load(
    module: nn.Module,
    weights: dict[str, Tensor],
    source: Checkpoint,
    name: str,
    dry_run: bool = False,
) -> int:
    """Copy `weights` into `module` if they fill it, else raise."""
    own = {
        key: value
        for key, value in module.state_dict().items()
        if not key.startswith(('head.queue.', 'data_preprocessor.'))
    }
    # Files from before torch 0.4.1 lack this counter, which SwAV never uses.
    required = {
        key: value
        for key, value in own.items()
        if not key.endswith('num_batches_tracked') or key in weights
    }
    missing = sorted(required.keys() - weights.keys())
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
        for key, value in required.items()
        if key in weights and weights[key].shape != value.shape
    ]
    for key, value in required.items():
        found = weights.get(key, value)
        if value.is_floating_point() and not found.is_floating_point():
            raise ValueError(
                f'{source} does not fill the {name}: {key} holds '
                f'{found.dtype} in place of floating-point numbers; give a '
                'file of plain weights.'
            )
    if missing or shapes or deeper:
        raise ValueError(
            f'{source} does not fill the {name}: '
            f'{len(missing)} tensors are not in the file'
            f'{_some(missing)}, {len(shapes)} have a different shape'
            f'{_some(shapes)}; {len(unused)} tensors of the file are not in '
            f'the model{_some(deeper or unused)}. {_advise(source, missing)}'
        )
    check_finite({key: weights[key] for key in required}, source, own)
    if not dry_run:
        module.load_state_dict({k: weights[k] for k in required}, strict=False)
    return len(required)


def _advise(source: Checkpoint, missing: list[str]) -> str:
    """Say what the file is, and what to do."""
    found = describe_weights(source.weights)
    advice = found.advice
    if not advice and found.has_backbone and _lacks_head(found, missing):
        advice = 'load its backbone alone, with load_backbone or --pretrained'
    if not advice:
        advice = 'check that the model is of this depth and width'
    return f'The file is {found}; {advice}.'


def _lacks_head(found: Description, missing: list[str]) -> bool:
    """Return True if all that is missing is in parts that the file lacks."""
    parts = [part for part in ('neck', 'prototypes') if part in found.lacks]
    return bool(missing) and all(
        any(part in key.split('.')[:2] for part in parts) for key in missing
    )


def _stage(key: str) -> str | None:
    """Return the stage of a ResNet that a tensor belongs to.

    >>> _stage('backbone.layer3.22.conv1.weight'), _stage('fc.weight')
    ('layer3', None)
    """
    match = re.match(r'(?:backbone\.)?(layer\d)\.', key)
    return match[1] if match else None


def _some(names: list[str], limit: int = 8) -> str:
    """Return the first names in brackets, with a count of the rest.

    >>> _some(['conv1', 'bn1', 'fc'], limit=2)
    ' (conv1, bn1, and 1 more)'
    """
    if not names:
        return ''
    rest = f', and {len(names) - limit} more' if len(names) > limit else ''
    return f' ({", ".join(map(printable, names[:limit]))}{rest})'
