"""Read the weights in PaddlePaddle's files, without Paddle.

`paddle.save` and PASSL write pickles of NumPy arrays. Large arrays are cut
into slices, which are listed apart.

Source: Paddle's python/paddle/framework/io.py and io_utils.py.
"""

import math
import pickle
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from .file_kind import NOT_TORCH, CheckpointError
from .leave_out import WeightsUnpickler, report_left_out
from .rebuild import REBUILT, make_rebuilt

_NAMES = 'StructuredToParameterName@@'
_SLICES = 'UnpackBigParamInfor@@'


def read_paddle(file: IO[bytes]) -> Any:
    """Read a `.pdparams` or `.pd` file.

    Args:
        file: Open for reading, at its start.

    Returns:
        What was saved, with arrays as tensors.

    Raises:
        CheckpointError: One line. It is not a file of Paddle's, or damaged;
            or it wants a function that weights do not need.
    """

    class Unpickler(WeightsUnpickler):
        left_out: set[str] = set()

        def allowed(self) -> dict[str, Any]:
            return REBUILT | {'builtins.tuple': _name_and_array}

    try:
        # Python 2's text is bytes.
        loaded = Unpickler(file, encoding='latin1').load()
        content = _to_tensors(make_rebuilt(loaded), depth=0)
    except OSError:
        raise
    except Exception as error:  # whatever damaged bytes lead to
        reason = ' '.join(str(error).split())[:150].rstrip('.')
        raise CheckpointError(
            f'{file.name} is not a checkpoint but {NOT_TORCH["pickle"]} '
            f'({reason or type(error).__name__}).'
        ) from error
    report_left_out(file.name, Unpickler.left_out)
    return content


def _name_and_array(pair: Any = ()) -> tuple:
    """For `tuple`, which makes a tensor: its name and its values."""
    if not isinstance(pair, (tuple, list)):
        raise pickle.UnpicklingError('GLOBAL builtins.tuple')
    return tuple(pair)


def _to_tensors(value: Any, depth: int) -> Any:
    """Return a copy of dicts and lists with arrays as tensors."""
    if isinstance(value, tuple) and len(value) == 2:
        value = value[1] if isinstance(value[1], np.ndarray) else value
    if isinstance(value, np.ndarray):
        return _to_tensor(value)
    if not isinstance(value, dict) or depth > 8:
        return value
    value = {key: item for key, item in value.items() if key != _NAMES}
    slices = value.pop(_SLICES, {})
    if not isinstance(slices, dict):
        raise ValueError(f'{_SLICES} holds {type(slices).__name__}')
    for name, entry in slices.items():
        parts = [value.pop(part) for part in entry['slices']]
        value[name] = _join(name, parts, entry['OriginShape'])
    return {key: _to_tensors(item, depth + 1) for key, item in value.items()}


def _join(name: str, parts: list[Any], shape: Any) -> np.ndarray:
    """Put the slices of an array together."""
    parts = [part[1] if isinstance(part, tuple) else part for part in parts]
    if not all(isinstance(part, np.ndarray) for part in parts):
        raise ValueError(f'a slice of {name} is not an array')
    shape = tuple(shape)
    sizes_fit = all(type(size) is int and size >= 0 for size in shape)
    count = sum(part.size for part in parts)
    if not sizes_fit or math.prod(shape) != count:
        raise ValueError(f'the slices of {name} have {count} values: {shape}')
    return np.concatenate([part.reshape(-1) for part in parts]).reshape(shape)


def _to_tensor(array: np.ndarray) -> Tensor:
    """Return a tensor that shares the memory of an array if it can."""
    native = array.astype(array.dtype.newbyteorder('='), copy=False)
    return torch.from_numpy(native)
