"""Numbers in checkpoints: written plainly, read without NumPy's functions.

A pickle rebuilds an array by calling functions of NumPy, and these also make
arrays of Python objects out of any bytes, which are then taken for pointers.
What is here is called in their place. It keeps what it is given and makes
numbers of it, or refuses.
"""

import codecs
import math
import pickle
import re
from collections import Counter, OrderedDict
from numbers import Number
from typing import Any, NoReturn

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

_NUMBERS = 'b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 c8 c16'.split()
_HISTORY = 'mmengine.logging.history_buffer.HistoryBuffer'


def _refuse(name: str) -> NoReturn:
    raise pickle.UnpicklingError(f'GLOBAL {name}')


class Rebuilt:
    """Holds an object's pickled state until the whole file is read."""

    def __setstate__(self, state: Any) -> None:
        """Keep the state; here, of an object that has none."""
        _refuse(type(self).__name__)

    def make(self) -> Any:
        """Return the object itself."""
        raise NotImplementedError


class _Dtype(Rebuilt):
    """For `numpy.dtype`: that of plain numbers."""

    code = order = ''

    def __init__(self, code: str, align: bool = False, copy: bool = True):
        if code not in _NUMBERS:
            _refuse('numpy.dtype')
        self.code = code

    def __setstate__(self, state: tuple) -> None:
        _, order, subarray, names, fields, *_ = state
        is_plain = subarray is names is fields is None
        if order not in ('<', '>', '|', '=') or not is_plain:
            _refuse('numpy.dtype')
        self.order = order

    def make(self) -> np.dtype:
        """Return the dtype."""
        if self.code not in _NUMBERS:
            _refuse('numpy.dtype')
        return np.dtype(self.order + self.code)


class _Array(Rebuilt):
    """For `numpy.ndarray`: an array whose bytes are numbers."""

    state: tuple = ()

    def __init__(self, *args: Any) -> None:
        _refuse('numpy.ndarray')  # this would take any bytes and dtype

    def __setstate__(self, state: tuple) -> None:
        self.state = state

    def make(self) -> np.ndarray:
        """Return the array."""
        _, shape, dtype, is_fortran, content = self.state
        return _numbers(dtype, shape, content, 'F' if is_fortran else 'C')


class _History(Rebuilt):
    """For mmengine's `HistoryBuffer`."""

    def __init__(self, *args: Any) -> None:
        names = ('_log_history', '_count_history', 'max_length')
        self.__setstate__(dict(zip(names, args)))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state

    def make(self) -> HistoryBuffer:
        """Return the history, with the statistics that every one has."""
        values, counts = (
            self.state[name].make()
            for name in ('_log_history', '_count_history')
        )
        return _make_history(values, counts, self.state['max_length'])


class _Scalar(Rebuilt):
    """For a scalar of NumPy: a plain number."""

    def __init__(self, dtype: _Dtype, content: bytes) -> None:
        self.value = _numbers(dtype, (), content, 'C').item()

    def make(self) -> bool | int | float | complex:
        """Return the number."""
        return self.value


def _numbers(dtype: Any, shape: Any, content: Any, order: Any) -> np.ndarray:
    """Make an array of numbers from its bytes."""
    if type(content) is str:  # Python 2's bytes
        content = content.encode('latin1')
    if type(dtype) is not _Dtype or type(content) is not bytes:
        _refuse('numpy.ndarray')
    if not all(type(size) is int and size >= 0 for size in shape):
        _refuse('numpy.ndarray')
    array = np.frombuffer(content, dtype.make())
    if array.size != math.prod(shape):
        _refuse('numpy.ndarray')
    return array.reshape(shape, order=order).copy(order)


def _make_history(values: Any, counts: Any, max_length: Any) -> HistoryBuffer:
    """Make a history from two arrays of one length."""
    if type(max_length) is not int or max_length < 1:
        _refuse(_HISTORY)
    if values.ndim != 1 or values.shape != counts.shape:
        _refuse(_HISTORY)
    return HistoryBuffer(values, counts, max_length)


def _empty_array(kind: Any, shape: Any, code: Any) -> _Array:
    """For NumPy's `_reconstruct`, whose result gets its state later."""
    return _Array.__new__(_Array)


def _history_method(owner: Any, name: str) -> None:
    """For `getattr`: HistoryBuffers list their statistics, which all have."""
    if owner is not _History or not re.fullmatch(r'[a-z]\w*', name):
        raise pickle.UnpicklingError(
            f'GLOBAL builtins.getattr of {owner!r}, {name!r}'
        )


def _latin1(text: str, encoding: str) -> bytes:
    """For `codecs.encode`, which makes bytes in pickle protocol 2."""
    if encoding != 'latin1':
        _refuse('_codecs.encode')
    return codecs.latin_1_encode(text)[0]


def _no_bytes() -> bytes:
    """For `bytes`, which makes empty ones in pickle protocol 2."""
    return b''


# What mmengine's checkpoints ask for beside tensors and plain values, and what
# they get.
REBUILT: dict[str, Any] = {
    _HISTORY: _History,
    'builtins.getattr': _history_method,
    'builtins.bytes': _no_bytes,
    'collections.Counter': Counter,  # older torch refuses it
    '_codecs.encode': _latin1,
    'numpy.ndarray': _Array,
    'numpy.dtype': _Dtype,
}
for _module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
    # Files written with numpy 1 are read with numpy 2, and vice versa.
    REBUILT[f'{_module}._reconstruct'] = _empty_array
    REBUILT[f'{_module}.scalar'] = _Scalar


def make_rebuilt(value: Any) -> Any:
    """Put the objects themselves into what was read, in place."""
    return _replace(value, {})


def _replace(value: Any, done: dict[int, tuple[Any, Any]]) -> Any:
    """Replace a value, and each object once: many may hold the same one.

    Args:
        value: What was read.
        done: By identity, objects and what replaces them. The objects are
            kept, as the identity of one that is gone may be another's.
    """
    if id(value) in done:
        return done[id(value)][1]
    new = value
    if isinstance(value, Rebuilt):
        new = value.make()
    elif type(value) is tuple:
        new = tuple(_replace(item, done) for item in value)
    done[id(value)] = value, new
    if isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in [*items]:
            replaced = _replace(item, done)
            if replaced is not item:
                value[key] = replaced
    return new


def is_plain(value: Any) -> bool:
    """Return True for what `to_plain` takes: numbers, text and tensors."""
    if isinstance(value, dict):
        return all(is_plain(item) for pair in value.items() for item in pair)
    if type(value) in (list, tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(
        value, (Number, np.generic, str, bytes, Tensor, HistoryBuffer)
    )


def to_plain(value: Any) -> Any:
    """Return a copy that any `torch.load(weights_only=True)` reads.

    Args:
        value: Dicts, lists and tuples of tensors, plain values, NumPy scalars
            and HistoryBuffers.

    >>> to_plain({'lr': np.float64(0.1), 'loss': HistoryBuffer([2.], [1])})
    {'lr': 0.1, 'loss': {'values': tensor([2.], dtype=torch.float64), \
'counts': tensor([1]), 'max_length': 1000000}}
    """
    if isinstance(value, HistoryBuffer):
        values, counts = map(torch.as_tensor, value.data)
        return dict(values=values, counts=counts, max_length=value.max_length)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        # torch reads these, too; MultiStepLR has a Counter.
        kind = type(value) if type(value) in (OrderedDict, Counter) else dict
        return kind({key: to_plain(item) for key, item in value.items()})
    if type(value) in (list, tuple):
        return type(value)(map(to_plain, value))
    return value


def to_history(value: Any) -> HistoryBuffer | None:
    """Return the history that `to_plain` wrote, or that an older file has."""
    if isinstance(value, HistoryBuffer):
        return value
    if not isinstance(value, dict) or {*value} != {
        'values',
        'counts',
        'max_length',
    }:
        return None
    if not all(isinstance(value[key], Tensor) for key in ('values', 'counts')):
        return None
    values, counts = (
        value[key].detach().cpu().numpy() for key in ('values', 'counts')
    )
    return _make_history(values, counts, value['max_length'])
