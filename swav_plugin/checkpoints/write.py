"""Write weights in the files of other libraries, whole or not at all."""

import hashlib
import io
import json
import os
import pickle
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .atomic import open_atomic, write_atomic
from .checkpoint import Checkpoint
from .convert import (
    Parts,
    State,
    extract_prefix,
    pick_parts,
    plain_copies,
    to_detectron2,
    to_mmdet,
    to_mmpretrain,
    to_official,
    to_ours,
    to_torchvision,
)
from .describe import describe_weights
from .model_settings import KEY, ModelSettings
from .rebuild import is_plain, to_plain
from .training_state import check_finite


def _save_flat(state: State, about: dict[str, Any], file: IO[bytes]) -> None:
    """Write names and tensors, and nothing else, with `torch.save`."""
    torch.save(state, file)


def _save_mm(state: State, about: dict[str, Any], file: IO[bytes]) -> None:
    """Write a checkpoint of OpenMMLab with `torch.save`."""
    torch.save(dict(meta=about, state_dict=state), file)


def _save_safetensors(
    state: State, about: dict[str, Any], file: IO[bytes]
) -> None:
    """Write a safetensors file."""
    import safetensors.torch

    # By 'format' other libraries know that torch wrote it.
    file.write(
        safetensors.torch.save(state, dict(as_text(about), format='pt'))
    )


def as_text(about: Mapping[str, Any]) -> dict[str, str]:
    """Return what is said of weights for files that hold text alone.

    >>> as_text(dict(author='a', size=[1, 2]))
    {'author': 'a', 'size': '[1, 2]'}
    """
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in about.items()
    }


def _save_pickle(state: State, about: dict[str, Any], file: IO[bytes]) -> None:
    """Write the pickle of arrays that detectron2 reads."""
    content = dict(
        model={key: _to_array(tensor) for key, tensor in state.items()},
        __author__=about['author'],
        # Names then match if their ends do: res5 also fills the head of C4
        # detectors.
        matching_heuristics=True,
    )
    _Pickler(file, protocol=4).dump(content)


def _to_array(tensor: Tensor) -> np.ndarray:
    """Return the same numbers as an array; NumPy has no bfloat16."""
    if tensor.is_floating_point() and tensor.dtype not in (
        torch.float16,
        torch.float32,
        torch.float64,
    ):
        tensor = tensor.float()
    return tensor.numpy()


class _Pickler(pickle.Pickler):
    """Writes arrays that any version of NumPy can read.

    NumPy's own pickles name internal modules: those of NumPy 2 cannot be read
    with 1.24 and older.
    """

    def reducer_override(self, value: Any) -> Any:
        """Write an array as the call that makes it."""
        if not isinstance(value, np.ndarray):
            return NotImplemented
        # An array made from a bytearray is writable.
        return np.ndarray, (
            value.shape,
            value.dtype.str,
            bytearray(value.tobytes()),
        )


# What `meta` says about the folder and the hooks of a run.
_OF_THE_RUN = {'best_checkpoints', 'hook_msgs'}


class Format(NamedTuple):
    """A way to write weights.

    Attributes:
        names: Gives the parts their names in the file.
        save: Writes names and tensors, and where they are from, to a file.
        suffix: What the name of the file must end with, because readers go
            by that; empty where they do not.
        has_head: Write the neck and the prototypes, too.
    """

    names: Callable[[Parts], State]
    save: Callable[[State, dict[str, str], IO[bytes]], None] = _save_flat
    suffix: str = ''
    has_head: bool = False

    @property
    def has_meta(self) -> bool:
        """Return whether the file says where its weights are from."""
        return self.save in (_save_mm, _save_safetensors)


FORMATS = {
    'torchvision': Format(to_torchvision),
    'timm': Format(to_torchvision),
    'mmpretrain': Format(to_mmpretrain, _save_mm, has_head=True),
    'mmdet': Format(to_mmdet, _save_mm),
    'detectron2': Format(to_detectron2, _save_pickle, '.pkl'),
    'official': Format(to_official, has_head=True),
    'safetensors': Format(
        to_ours, _save_safetensors, '.safetensors', has_head=True
    ),
}


class Written(NamedTuple):
    """What became of a checkpoint.

    Attributes:
        path: The file that was written.
        parts: How many tensors of each part are in it.
        left_out: Names of tensors, and other things, that are not.
        settings: What the checkpoint says of its images, if the file has no
            place for it.
    """

    path: Path
    parts: dict[str, int]
    left_out: list[str]
    settings: ModelSettings | None = None


def write_weights(
    checkpoint: str | Path | Checkpoint,
    out: str | Path,
    layout: str,
    overwrite: bool = False,
) -> Written:
    """Write the weights of a checkpoint for another library.

    Args:
        checkpoint: A path, a URL or the name of a model of the zoo.
        out: The file to write.
        layout: One of `FORMATS`.
        overwrite: Replace a file that exists.

    Raises:
        FileNotFoundError, ConnectionError: As `Checkpoint.path`.
        CheckpointError: The format cannot express these weights, or they are
            not finite.
        ValueError: As `check_out`.
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = Checkpoint(checkpoint)
    chosen = FORMATS[layout]
    out = check_out(out, checkpoint, chosen.suffix, overwrite)
    parts = pick_parts(checkpoint.weights, chosen.has_head)
    check_finite(to_ours(parts), checkpoint)
    state = chosen.names(parts)
    with open_atomic(out) as file:
        chosen.save(state, origin(checkpoint), file)
    settings = None if chosen.has_meta else checkpoint.settings
    return Written(out, count_parts(parts), parts.others, settings)


def count_parts(parts: Parts) -> dict[str, int]:
    """Return how many tensors each part has, without empty ones."""
    counts = dict(
        backbone=len(parts.backbone),
        neck=len(parts.neck),
        prototypes=len(parts.prototypes),
    )
    return {name: count for name, count in counts.items() if count}


def origin(checkpoint: Checkpoint) -> dict[str, Any]:
    """Say where weights are from, without the folders of this machine.

    And what they say of their images, if they do.
    """
    source = checkpoint.source
    if '://' not in source:
        source = os.path.basename(source)
    found = describe_weights(checkpoint.weights)
    about: dict[str, Any] = dict(
        author='swav_plugin',
        architecture=found.network.removeprefix('a '),
        source=source,
        source_sha256=checkpoint.sha256,
    )
    if checkpoint.settings is not None:
        about[KEY] = checkpoint.settings.to_plain()
    return about


def check_out(
    out: str | Path, checkpoint: Checkpoint, suffix: str, overwrite: bool
) -> Path:
    """Check that a file can be written without losing one.

    Args:
        out: The file to write.
        checkpoint: Where the weights are from.
        suffix: What the name must end with; empty for that of any format
            without one of its own.
        overwrite: Replace a file that exists.

    Raises:
        ValueError: The file is that of the checkpoint, or exists, or its
            name ends as that of another format.
    """
    out = Path(out).expanduser()
    own = {each.suffix for each in FORMATS.values()} | {'.onnx'}
    if suffix and out.suffix != suffix:
        raise ValueError(
            f'{out}: readers of this format go by the end of the name; '
            f'give one that ends with {suffix}.'
        )
    if not suffix and out.suffix in own - {''}:
        raise ValueError(
            f'{out}: this format is written with torch.save, and a name that '
            f'ends with {out.suffix} says otherwise; end it with .pth.'
        )
    if out.is_dir():
        raise ValueError(f'{out} is a folder; give the name of a file.')
    if out.exists() and out.samefile(checkpoint.path):
        raise ValueError(
            f'{out} is the checkpoint itself; give another name for the file '
            'to write.'
        )
    if out.exists() and not overwrite:
        raise ValueError(
            f'{out} exists already; give another name, or --overwrite to '
            'replace it.'
        )
    return out


def publish(checkpoint: str | Path | Checkpoint, out: str | Path) -> Written:
    """Write what others need of the checkpoint of a training run.

    That is its weights without the queue, and `meta`, which has the config.
    Where a run averaged its weights (EMA), the averages are its weights.

    Args:
        checkpoint: A path, a URL or the name of a model of the zoo.
        out: The file to write; the date and the first 8 digits of its
            SHA-256 are put at the end of its name, before .pth.

    Raises:
        FileNotFoundError, ConnectionError: As `Checkpoint.path`.
        CheckpointError: The file holds no weights, or they are not finite.
        ValueError: As `check_out`.
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = Checkpoint(checkpoint)
    out = check_out(out, checkpoint, '', overwrite=True)
    weights, meta, others = checkpoint.content
    about, lost = {}, []
    for name, value in meta.items():
        if is_plain(value):
            about[name] = value
        else:  # an object that was not read
            lost.append(f'meta.{name}')
    for name in _OF_THE_RUN & about.keys():
        del about[name]
    queue = [key for key in weights if key.startswith('head.queue.')]
    state = plain_copies({k: weights[k] for k in weights if k not in queue})
    check_finite(state, checkpoint)
    file = io.BytesIO()
    _save_mm(state, to_plain(about or origin(checkpoint)), file)
    digits = hashlib.sha256(file.getbuffer()).hexdigest()[:8]
    stem = out.name.removesuffix('.tar').removesuffix('.pth')
    out = out.with_name(f'{stem}_{date.today():%Y%m%d}-{digits}.pth')
    write_atomic(out, file.getvalue())
    return Written(out, dict(model=len(state)), [*others, *lost, *queue])


def extract(
    checkpoint: str | Path | Checkpoint,
    out: str | Path,
    prefix: str,
    remove_prefix: bool,
    overwrite: bool = False,
) -> Written:
    """Write the tensors of one part of a model, as they are named.

    Args:
        checkpoint: A path, a URL or the name of a model of the zoo.
        out: The file to write.
        prefix: The part, such as 'backbone'.
        remove_prefix: Cut the prefix and its dot off the names.
        overwrite: Replace a file that exists.

    Raises:
        FileNotFoundError, ConnectionError: As `Checkpoint.path`.
        CheckpointError: There is no such part, or it is not finite.
        ValueError: As `check_out`.
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = Checkpoint(checkpoint)
    out = check_out(out, checkpoint, '', overwrite)
    state = extract_prefix(checkpoint.weights, prefix, remove_prefix)
    check_finite(state, checkpoint)
    content: dict[str, Any] = dict(state_dict=state, author='swav_plugin')
    if checkpoint.settings is not None:
        content['meta'] = {KEY: checkpoint.settings.to_plain()}
    with open_atomic(out) as file:
        torch.save(content, file)
    return Written(out, {prefix.rstrip('.'): len(state)}, [])
