"""Read checkpoints without running code that somebody put into them.

A checkpoint is a pickle, and a pickle may name any function to be called.
"""

import codecs
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as mmengine_checkpoint

from .download import download

OVERRIDE = 'SWAV_ALLOW_UNSAFE_CHECKPOINTS'


def _history_method(owner: Any, name: str) -> Any:
    """Stand in for `getattr`, which would reach far beyond HistoryBuffer."""
    if owner is not HistoryBuffer or name.startswith('_'):
        raise pickle.UnpicklingError(
            f'GLOBAL builtins.getattr of {owner!r}, {name!r}'
        )
    return getattr(owner, name)


# Everything that mmengine saves for a resume besides tensors and plain values:
# the logged numbers, each a HistoryBuffer of two arrays and four statistics.
_ALLOWED = {
    'mmengine.logging.history_buffer.HistoryBuffer': HistoryBuffer,
    'builtins.getattr': _history_method,
    '_codecs.encode': codecs.encode,  # makes bytes in pickle protocol 2
    'numpy.ndarray': np.ndarray,
    'numpy.dtype': np.dtype,
}
for _module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
    # Files written with numpy 1 are read with numpy 2, and vice versa.
    _ALLOWED[f'{_module}._reconstruct'] = np.empty(0).__reduce__()[0]
    _ALLOWED[f'{_module}.scalar'] = np.float64(0).__reduce__()[0]

# Before 2.6, torch cannot allow an object under a name that is not its own.
_TORCH_ALLOWS_NAMES = torch.__version__ >= '2.6'
if _TORCH_ALLOWS_NAMES:
    # For the whole process: mmengine has more loaders than those we replace.
    torch.serialization.add_safe_globals(
        [
            *((value, name) for name, value in _ALLOWED.items()),
            *(type(np.dtype(code)) for code in '? u1 i4 u4 i8 f4 f8'.split()),
        ]
    )


class _RestrictedPickle:
    """A `pickle_module` for older torch that allows the same few names."""

    class Unpickler(pickle.Unpickler):
        """Refuses every global that is not listed above."""

        def find_class(self, module: str, name: str) -> Any:
            """Look up an allowed global."""
            from torch._weights_only_unpickler import _get_allowed_globals

            allowed = {**_get_allowed_globals(), **_ALLOWED}
            # torch.save writes Python 2's names.
            full_name = f'{module}.{name}'.replace('__builtin__', 'builtins')
            if full_name not in allowed:
                raise pickle.UnpicklingError(f'GLOBAL {full_name}')
            return allowed[full_name]

    @classmethod
    def load(cls, file: Any, **kwargs: Any) -> Any:
        """Read one object, as `pickle.load`."""
        return cls.Unpickler(file, **kwargs).load()


def safe_load(file: Any, map_location: Any = None) -> Any:
    """Read weights or a training state that `torch.save` wrote.

    With the environment variable SWAV_ALLOW_UNSAFE_CHECKPOINTS=1 any file is
    read, and may run any code: use it for files whose origin you trust.

    Args:
        file: Path or binary file.
        map_location: As for `torch.load`.

    Raises:
        ValueError: The file wants a function or class that neither needs,
            which the message names; or the file is cut off.
    """
    if os.environ.get(OVERRIDE) == '1':
        return torch.load(file, map_location, weights_only=False)
    try:
        if _TORCH_ALLOWS_NAMES:
            return torch.load(file, map_location, weights_only=True)
        return torch.load(
            file, map_location, _RestrictedPickle, weights_only=False
        )
    except (RuntimeError, EOFError) as error:
        if isinstance(error, RuntimeError) and (
            'PytorchStreamReader' not in str(error)
        ):
            raise
        raise ValueError(
            f'{file} cannot be read: it is cut off, or not a checkpoint.'
        ) from error
    except pickle.UnpicklingError as error:
        wanted = re.findall(r'GLOBAL ([\w.]+)', str(error))
        reason = f'it wants {wanted[0]}' if wanted else str(error)
        raise ValueError(
            f'{file} was not loaded: {reason}. Weights and training states '
            'need nothing of the kind, and loading it may run any code. If '
            f'you trust the file, set the environment variable {OVERRIDE}=1.'
        ) from error


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """Read a checkpoint file for mmengine's `load_checkpoint` and resume."""
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'there is no checkpoint {path}.')
    return safe_load(path, map_location)


def load_url(
    url: str,
    model_dir: str | None = None,
    map_location: Any = None,
    progress: bool = True,
) -> Any:
    """Download a checkpoint once, then read it safely.

    `torch.hub.load_state_dict_from_url`, which mmengine calls, is unsafe by
    default in every version of torch.
    """
    folder = None if model_dir is None else Path(model_dir)
    return safe_load(download(url, folder), map_location)


def use_in_mmengine() -> None:
    """Make mmengine read files and URLs with `safe_load`."""
    mmengine_checkpoint.CheckpointLoader.register_scheme(
        '', load_from_local, force=True
    )
    mmengine_checkpoint.load_url = load_url
    # onedl's own, for its other schemes, falls back to an unsafe load.
    mmengine_checkpoint._safe_torch_load = safe_load
