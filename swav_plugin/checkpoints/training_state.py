"""Decide what of a training state may be used, and check that it can be."""

import logging
from collections.abc import Iterator, Mapping
from numbers import Number
from typing import Any

import torch
from mmengine.logging import HistoryBuffer, print_log
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from torch import Tensor

from .file_kind import CheckpointError
from .rebuild import to_history

# Text and paths in mmengine's message hub. A run sets them anew, but for its
# best checkpoints, whose names our CheckpointHook keeps elsewhere.
_SET_ANEW = (
    'best_ckpt',
    'cfg',
    'dataset_meta',
    'experiment_name',
    'last_ckpt',
    'loop_stage',
    'mmengine_version',
)


# Repeated values up to this size are taken as they are.
_LARGE = 2**30


def keep_data(checkpoint: Any, source: object) -> Any:
    """Leave out what mmengine runs as a config or uses as a path.

    mmengine runs `meta['config']` when it resumes and `meta['cfg']`, which is
    renamed here, when it builds a model from a checkpoint. It deletes the
    files and folders that the message hub calls the best checkpoints. Of the
    hub only numbers are kept, so that no hook finds a path there.

    Args:
        checkpoint: What was read from a file; changed in place.
        source: For the message.
    """
    if not isinstance(checkpoint, dict):
        return checkpoint
    meta = checkpoint.get('meta')
    if isinstance(meta, dict):
        meta.pop('config', None)
        if 'cfg' in meta:  # to be compared, under a name that nobody runs
            meta['cfg_text'] = meta.pop('cfg')
        if type(meta.get('seed')) is not int:
            meta.pop('seed', None)
    if 'message_hub' in checkpoint:
        hub, left_out = _keep_numbers(checkpoint['message_hub'])
        checkpoint['message_hub'] = hub
        if left_out:
            print_log(
                f'{source}: ignoring what is not a number in its message hub: '
                f'{", ".join(left_out)}.',
                'current',
                level=logging.WARNING,
            )
    return checkpoint


def _keep_numbers(hub: Any) -> tuple[dict[str, dict], list[str]]:
    """Return a message hub of numbers, and the names that were dropped."""
    scalars, info, resumed = (
        _dict(_dict(hub).get(name))
        for name in ('log_scalars', 'runtime_info', 'resumed_keys')
    )
    histories = {name: _history(value) for name, value in scalars.items()}
    kept: dict[str, dict] = dict(
        log_scalars={
            name: value
            for name, value in histories.items()
            if value is not None
        },
        runtime_info={
            name: value
            for name, value in info.items()
            if _is_number(value) and not _is_set_anew(name)
        },
    )
    names = {*kept['log_scalars'], *kept['runtime_info']}
    kept['resumed_keys'] = {
        name: True for name in resumed if name in names and resumed[name]
    }
    left_out = [
        name
        for name in {**scalars, **info}
        if name not in names and not _is_set_anew(name)
    ]
    return kept, [str(name) for name in left_out]


def _history(value: Any) -> HistoryBuffer | None:
    """Return a history of numbers; None for anything else."""
    try:
        return to_history(value)
    except Exception:  # whatever is in place of the numbers
        return None


def _dict(value: Any) -> dict:
    return value if isinstance(value, dict) else {}


def _is_set_anew(name: object) -> bool:
    return str(name).startswith(_SET_ANEW)


def _is_number(value: Any) -> bool:
    """Return True for numbers and tensors, and for lists and dicts of them."""
    if isinstance(value, (list, tuple)):
        return all(map(_is_number, value))
    if isinstance(value, dict):
        return all(map(_is_number, value.values()))
    return value is None or isinstance(value, (Number, Tensor))


def check_finite(
    tensors: Any, source: object, own: Mapping[str, Tensor] | None = None
) -> None:
    """Check that weights, or an optimizer's state, are finite numbers.

    Args:
        tensors: A tensor, or dicts and lists of them and of plain values.
        source: Where they are from, for the message.
        own: The tensors of the model that they are for. One that is not
            finite there, such as a mask, need not be finite in the file.

    Raises:
        CheckpointError: One line that names the first tensor that is not.
    """
    for name, tensor in named_tensors(tensors):
        count = _count_not_finite(tensor)
        if not count or (own and _count_not_finite(own.get(name))):
            continue
        raise CheckpointError(
            f'{source}: {name} is not finite: {count} of its '
            f'{tensor.numel()} values are infinite or not a number. The '
            'run that wrote it had diverged; give an earlier checkpoint.'
        )


def check_storage(tensors: Any, source: object) -> None:
    """Check that tensors have the bytes of their values.

    Args:
        tensors: A tensor, or dicts and lists of them and of plain values.
        source: Where they are from, for the message.

    Raises:
        CheckpointError: One has none, or is larger than it by far, so that
            using it would fill the memory.
    """
    for name, tensor in named_tensors(tensors):
        if tensor.layout is not torch.strided:
            continue
        num_bytes = tensor.numel() * tensor.element_size()
        if tensor.is_meta:
            fault = 'has no values'
        elif num_bytes > max(_LARGE, tensor.untyped_storage().nbytes()):
            fault = f'expands a few values to {num_bytes / 2**30:.1f} GiB'
        else:
            continue
        raise CheckpointError(
            f'{source}: {name} {fault}; no training writes such a tensor: '
            'give another file.'
        )


def check_parts(state: Any, source: object) -> None:
    """Check that a file holds all that a run goes on from.

    Args:
        state: What was read from it.
        source: For the message.

    Raises:
        CheckpointError: It holds no weights, weights alone, or counts that
            no training has.
    """
    state = state if isinstance(state, Mapping) else {}
    weights = state.get('state_dict', state)
    if not isinstance(weights, Mapping) or not any(
        isinstance(value, Tensor) for value in weights.values()
    ):
        raise CheckpointError(
            f'{source} cannot be resumed: it holds no weights; give a file '
            'that a training run saved'
        )
    meta = _dict(state.get('meta'))
    epoch, num_iters = meta.get('epoch'), meta.get('iter')
    if not (
        isinstance(state.get('optimizer'), Mapping)
        and {'state_dict', 'message_hub'} <= state.keys()
        and isinstance(epoch, int)
        and isinstance(num_iters, int)
    ):
        raise CheckpointError(
            f'{source} cannot be resumed: the file holds weights, but not '
            'the state of a run; to start from them give --pretrained '
            f'{source}'
        )
    if epoch < 0 or num_iters < 0:
        raise CheckpointError(
            f'{source} cannot be resumed: it says epoch {epoch}, '
            f'iteration {num_iters}; give an earlier checkpoint'
        )
    for name in _names_in(state.get('param_schedulers')):
        # A scheduler takes up what it finds, also in place of a method.
        if callable(getattr(_ParamScheduler, name, None)):
            raise CheckpointError(
                f'{source} cannot be resumed: a scheduler in it has {name!r}, '
                'which is not scheduler state; give another checkpoint'
            )


def _names_in(node: Any) -> Iterator[str]:
    """Yield the names in dicts and in lists of dicts."""
    if isinstance(node, Mapping):
        yield from map(str, node)
    for child in (
        node if isinstance(node, (list, tuple)) else _dict(node).values()
    ):
        yield from _names_in(child)


def named_tensors(
    node: Any, name: str = '', seen: set[int] | None = None
) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in dicts and lists with their dotted names."""
    seen = set() if seen is None else seen
    if isinstance(node, Tensor):
        yield name, node
    elif isinstance(node, (Mapping, list, tuple)) and id(node) not in seen:
        seen.add(id(node))  # a few lists can hold each other a million times
        items = node.items() if isinstance(node, Mapping) else enumerate(node)
        for key, child in items:
            yield from named_tensors(child, f'{name}.{key}'.lstrip('.'), seen)


def _count_not_finite(tensor: Tensor | None) -> int:
    """Return how many values of a dense tensor are infinite or NaN."""
    if tensor is None or tensor.layout is not torch.strided:
        return 0
    if not tensor.is_floating_point() and not tensor.is_complex():
        return 0
    if tensor.element_size() == 1:
        tensor = tensor.float()  # torch.isfinite does not know float8
    return tensor.numel() - int(torch.isfinite(tensor).sum())
