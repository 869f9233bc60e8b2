"""Containers of weights: from a file of any known kind to a state dict."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.logging import print_log
from safetensors import safe_open
from torch import Tensor

from .file_kind import NOT_TORCH, CheckpointError, find_container, find_damage
from .keys import inner_name
from .leave_out import LeftOut
from .paddle import read_paddle
from .safe_load import load_weights

# The names under which files keep their weights, beside other things. Of two
# copies the averaged one comes first, which its authors evaluate. mmengine's
# `ema_state_dict` is not listed: it holds the copy that is *not* averaged.
_WRAPPERS = (
    'classy_state_dict',  # VISSL's, and base_model
    'base_model',
    'teacher',  # DINO's
    'state_dict_ema',  # timm's
    'model_ema',
    'model_state_dict',
    'state_dict',
    'model',
    'student',
)
_MAX_DEPTH = 8
_MAX_NODES = 100  # dicts and lists in each other


class Content(NamedTuple):
    """What a file with weights holds.

    Attributes:
        weights: Names to tensors, as they are in the file, on the CPU.
        meta: What the file says of them, as OpenMMLab's under 'meta' and
            safetensors in its metadata.
        others: Names of what else is in the file, such as 'optimizer'.
    """

    weights: dict[str, Tensor]
    meta: Mapping[str, Any]
    others: list[str]


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the weights in a file; see `read_content`."""
    return read_content(path).weights


def read_content(path: Path) -> Content:
    """Read the weights in a file without running code from it.

    Args:
        path: A file that `torch.save` or safetensors wrote, or one of
            PaddlePaddle's: a state dict, or a dict that holds one under any
            usual name, such as 'state_dict' or 'model'.

    Returns:
        The weights, where names of nested dicts are joined with dots, and
        what is said of them.

    Raises:
        CheckpointError: The file holds no state dict, or as `load_weights`.
    """
    with open(path, 'rb') as file:
        container = find_container(file)
        if container == 'safetensors':
            return _read_safetensors(path, find_damage(file))
        is_torch = container == 'torch'
        content = load_weights(file) if is_torch else read_paddle(file)
    weights = _find_weights(content, path, set())
    if is_torch and weights is None:
        raise _refusal(content, path)
    if not is_torch and not any(
        name.endswith('._mean') for name in weights or ()
    ):
        raise CheckpointError(
            f'{path} is not a checkpoint but {NOT_TORCH["pickle"]}. Of such '
            "files PASSL's are read, which have the statistics of batch norm "
            'under names that end in ._mean.'
        )
    return Content(weights or {}, *_beside(content))


def _beside(content: Any) -> tuple[Mapping[str, Any], list[str]]:
    """Return `meta` and the names of what is beside weights in OpenMMLab's."""
    if not isinstance(content.get('state_dict'), Mapping):
        return {}, []
    meta = content.get('meta')
    others = [str(key) for key in content.keys() - {'meta', 'state_dict'}]
    return meta if isinstance(meta, Mapping) else {}, sorted(others)


def _read_safetensors(path: Path, damage: str | None) -> Content:
    """Read a safetensors file, whose reader checks shapes and offsets."""
    weights: dict[str, Tensor] = {}
    meta: dict[str, str] = {}
    try:
        if damage is None:
            with safe_open(path, 'pt') as opened:
                meta = opened.metadata() or {}
                for name in opened.keys():  # noqa: SIM118, not a dict
                    # A copy, as the file may change or go.
                    weights[name] = opened.get_tensor(name).clone()
    except OSError:
        raise
    except Exception as error:  # whatever damaged bytes lead to
        damage = ' '.join(str(error).split())[:150].rstrip('.')
    if damage is not None:
        raise CheckpointError(
            f'{path} cannot be read: it is cut off or damaged ({damage}); '
            'copy or download it again.'
        )
    if not weights:
        raise CheckpointError(f'{path} holds no weights; give another file.')
    return Content(weights, meta, [])


def _find_weights(
    node: Any, path: Path, seen: set[int], depth: int = 0
) -> dict[str, Tensor] | None:
    """Return the state dict in what was read; None if there is none."""
    if not isinstance(node, Mapping) or not node or depth > _MAX_DEPTH:
        return None
    if id(node) in seen:
        return None
    seen.add(id(node))
    if all(isinstance(value, Tensor) for value in node.values()):
        prefixes = {inner_name(str(key)).partition('.')[0] for key in node}
        if {'teacher', 'student'} <= prefixes:  # see `strip_wrappers`
            _report_choice(path, ['teacher', 'student'])
        return {str(key): value for key, value in node.items()}
    found: dict[str, dict[str, Tensor]] = {}
    for key in _WRAPPERS:
        weights = _find_weights(node.get(key), path, seen, depth + 1)
        if weights is not None:
            found[key] = weights
    if len(found) > 1:
        _report_choice(path, [*found])
    if found:
        return next(iter(found.values()))
    flat: dict[str, Tensor] = {}
    return flat if _flatten(node, '', flat, set()) and flat else None


def _report_choice(path: Path, names: list[str]) -> None:
    """Say which of several networks in a file is taken: the first."""
    first, *others = map(repr, names)
    print_log(
        f'{path} holds several networks: took the weights under {first}, not '
        f'those under {", ".join(others)}.',
        'current',
        level=logging.WARNING,
    )


def _flatten(
    node: Any, name: str, flat: dict[str, Tensor], seen: set[int]
) -> bool:
    """Join the names of nested dicts and lists of tensors with dots.

    Returns:
        False if there is anything else in them, or one of them twice.
    """
    if isinstance(node, Tensor):
        flat[name] = node
        return True
    is_known = isinstance(node, (Mapping, list)) and id(node) not in seen
    if not is_known or len(seen) > _MAX_NODES:
        return False
    seen.add(id(node))
    items = node.items() if isinstance(node, Mapping) else enumerate(node)
    return all(
        _flatten(child, f'{name}.{key}' if name else str(key), flat, seen)
        for key, child in items
    )


def _refusal(content: Any, path: Path) -> CheckpointError:
    """Make the error for a file without a state dict."""
    parts = [content]
    if isinstance(content, Mapping):
        parts += [content.get(key) for key in _WRAPPERS]
    for part in parts:
        if isinstance(part, LeftOut):
            return CheckpointError(
                f'{path} holds an object, a {type(part).__name__}, in place '
                'of its weights, and loading it may run any code; if you '
                'trust it, write the weights alone with '
                'torch.save(model.state_dict(), OUT).'
            )
    return CheckpointError(
        f'{path} holds no weights; expected names with tensors, or a dict '
        "that has them under 'state_dict', 'model' or the like. Files of "
        'JAX (flax) are not read.'
    )
