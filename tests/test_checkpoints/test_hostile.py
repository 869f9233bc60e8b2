"""No reader of weights runs what is in a file, or fills the memory.

Each file ends in one line, or its weights are read; no file appears.
"""

import json
import os
import pickle
import resource
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from swav_plugin.checkpoints import file_kind, read_checkpoint
from swav_plugin.checkpoints.file_kind import CheckpointError


class _Call:
    """Unpickles into a call, and a state for its result."""

    def __init__(self, function: Any, *args: Any, state: Any = None) -> None:
        self.call = function, args, state

    def __reduce__(self) -> tuple:
        return self.call if self.call[2] is not None else self.call[:2]


class _Foreign:
    """A class of the user's, whose module must not be imported."""


_rebuild = np.empty(0).__reduce__()[0]
_EMPTY = (np.ndarray, (0,), b'b')
_F8 = np.dtype('f8')


def _array(*state: Any) -> _Call:
    return _Call(_rebuild, *_EMPTY, state=state)


def _attacks(folder: Path) -> dict[str, Any]:
    proof = str(folder / 'proof')
    return {
        'system': _Call(os.system, f'touch {proof}'),
        'mkdir': _Call(os.mkdir, proof),
        'open': _Call(open, proof, 'w'),
        'eval': _Call(eval, f'open({proof!r}, "w")'),
        'exec': _Call(exec, f'open({proof!r}, "w")'),
        'popen': _Call(subprocess.Popen, ['touch', proof]),
        'getattr': _Call(getattr, np.ndarray, 'tofile'),
        'import': _Call(__import__, 'os'),
        'load': _Call(np.load, proof),
        'tuple': _Call(tuple, 'a' * 9),
        'pointers': _Call(np.ndarray, (1,), 'O', b'A' * 8),
        'objects': np.array([None]),
        'negative': _array(1, (-1, -8), _F8, False, bytes(64)),
        'too large': _array(1, (2**60,), _F8, False, bytes(8)),
        'overflow': _array(1, (2**32, 2**32), _F8, False, b''),
        'objects by state': _array(1, (1,), np.dtype('O'), False, b'A' * 8),
        'text': _array(1, (1,), _F8, False, 'a€'),
        'state of a class': _Call(len, state=(None, {'x': 1})),
    }


ATTACKS = sorted(_attacks(Path()))


def _refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert str(caught.value).isprintable()  # one line
    assert str(path) in str(caught.value)
    assert not (path.parent / 'proof').exists()
    return str(caught.value)


_WEIGHTS = {
    'backbone.conv1.weight': torch.ones(2),
    'b.running_var': torch.ones(2),
}
_ARRAYS = {'bn1._mean': np.ones(2), 'bn1._variance': np.ones(2)}


@pytest.mark.parametrize('where', ['beside', 'inside', 'alone'])
@pytest.mark.parametrize('is_paddle', [True, False])
@pytest.mark.parametrize('kind', ATTACKS)
def test_calls(tmp_path: Path, kind: str, is_paddle: bool, where: str) -> None:
    if kind == 'tuple' and not is_paddle:
        pytest.skip('a type of Python, which is left out')
    value = _attacks(tmp_path)[kind]
    weights: dict[str, Any] = dict(_ARRAYS if is_paddle else _WEIGHTS)
    content = {
        'beside': dict(state_dict=weights, other=value),
        'inside': dict(state_dict=weights | {'x.weight': value}),
        'alone': value,
    }[where]
    path = tmp_path / 'w.pdparams'
    # An unknown object, so that the reader that leaves them out is used.
    content = [content, _Foreign()] if where == 'alone' else content
    if isinstance(content, dict):
        content['settings'] = _Foreign()
    if is_paddle:
        path.write_bytes(pickle.dumps(content, 2))
    else:
        torch.save(content, path)
    _refused(path)


def test_classes_keep_their_attributes(tmp_path: Path) -> None:
    """A state for a class would change it for the whole process."""
    code = b'\x80\x02ccollections\nCounter\n(N}X\x04\x00\x00\x00markK\x01stb.'
    (tmp_path / 'w.pdparams').write_bytes(code)
    assert 'a state for an object of type' in _refused(tmp_path / 'w.pdparams')
    assert not hasattr(Counter, 'mark')


def test_an_unknown_class_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / 'trap.py').write_text("open('proof', 'w')\nclass A: pass\n")
    code = b'\x80\x02}X\x01\x00\x00\x00actrap\nA\n)\x81s.'
    (tmp_path / 'w.pdparams').write_bytes(code)
    done = subprocess.run(
        [
            sys.executable,
            '-c',
            'from swav_plugin.checkpoints import read_checkpoint\n'
            "try: read_checkpoint('w.pdparams')\n"
            'except ValueError as error: print(error)',
        ],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert 'w.pdparams is not a checkpoint but a pickle' in done.stdout
    assert not (tmp_path / 'proof').exists()


def _nested(make: Callable[[Any], Any], depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = make(value)
    return value


BOMBS = {
    'deep lists': b'\x80\x02' + b']' * 99999 + b'a' * 99998 + b'.',
    'laughs': pickle.dumps(_nested(lambda x: (x, x), 60), 2),
    'lists that laugh': pickle.dumps(_nested(lambda x: [x, x], 60), 2),
    'wrappers': pickle.dumps(
        _nested(lambda x: dict(model=x, state_dict=x, student=x), 60), 2
    ),
    'memo': b'\x80\x02Nr\xff\xff\xff\x7f.',
    'long text': b'\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00.',
    'long frame': b'\x80\x04\x95\xff\xff\xff\xff\xff\x00\x00\x00N.',
    'bytearray': b'\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.',
    'cut off': pickle.dumps(_ARRAYS, 2)[:-20],
    'empty': b'\x80\x02',
}


@pytest.mark.parametrize('kind', BOMBS)
def test_pickles_that_ask_for_much(tmp_path: Path, kind: str) -> None:
    (tmp_path / 'w.pdparams').write_bytes(BOMBS[kind])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _refused(tmp_path / 'w.pdparams')
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 500_000  # KB


@pytest.mark.parametrize('kind', ['laughs', 'lists that laugh', 'wrappers'])
def test_torch_files_that_ask_for_much(tmp_path: Path, kind: str) -> None:
    torch.save(pickle.loads(BOMBS[kind]), tmp_path / 'w.pth')
    _refused(tmp_path / 'w.pth')


@pytest.mark.parametrize(
    'entry',
    [
        dict(OriginShape=(2**40, 2**40), slices=['a@@.0']),
        dict(OriginShape=(-2, -1), slices=['a@@.0']),
        dict(OriginShape=(3,), slices=['a@@.0']),
        dict(OriginShape=(2.0,), slices=['a@@.0']),
        dict(OriginShape=(4,), slices=['a@@.0', 'a@@.0']),
        dict(OriginShape=(2,), slices=['b@@.0']),
        dict(OriginShape=(0,), slices=[]),
        dict(OriginShape=(2,), slices=5),
        dict(slices=['a@@.0']),
        'text',
    ],
)
def test_slices_that_do_not_fit(tmp_path: Path, entry: Any) -> None:
    content = dict(_ARRAYS)
    content['a@@.0'] = np.ones(2)
    content['UnpackBigParamInfor@@'] = {'a': entry}
    path = tmp_path / 'w.pdparams'
    path.write_bytes(pickle.dumps(content, 2))
    _refused(path)


def _tensor(begin: int, end: int, shape: Any, dtype: str = 'F32') -> dict:
    return dict(dtype=dtype, shape=shape, data_offsets=[begin, end])


HEADERS: dict[str, Any] = {
    'overlap': {'a': _tensor(0, 8, [2]), 'b': _tensor(4, 12, [2])},
    'hole': {'a': _tensor(0, 4, [1]), 'b': _tensor(8, 12, [1])},
    'shape': {'a': _tensor(0, 12, [2**40])},
    'overflow': {'a': _tensor(0, 12, [2**32, 2**32])},
    'negative': {'a': _tensor(0, 12, [-3])},
    'beyond': {'a': _tensor(0, 2**40, [2**38])},
    'backwards': {'a': _tensor(12, 0, [3])},
    'dtype': {'a': _tensor(0, 12, [3], 'OBJECT')},
    'text': {'a': 'text'},
    'list': ['a'],
    'nothing': {},
    'no tensors': {'__metadata__': {'a': 'b'}},
}


def _safetensors(path: Path, header: bytes, length: int | None = None) -> None:
    size = len(header) if length is None else length
    path.write_bytes(size.to_bytes(8, 'little') + header + bytes(12))


@pytest.mark.parametrize('kind', HEADERS)
def test_lying_safetensors(tmp_path: Path, kind: str) -> None:
    path = tmp_path / 'w.safetensors'
    _safetensors(path, json.dumps(HEADERS[kind]).encode())
    _refused(path)


@pytest.mark.parametrize('length', [1, 9999, 2**26, 2**27 - 1, 2**62])
def test_lying_lengths(tmp_path: Path, length: int) -> None:
    path = tmp_path / 'w.safetensors'
    header = json.dumps({'a': _tensor(0, 12, [3])}).encode()
    _safetensors(path, header, length)
    _refused(path)


def test_headers_that_nest(tmp_path: Path) -> None:
    path = tmp_path / 'w.safetensors'
    _safetensors(path, b'{"a":' + b'[' * 99999)
    _refused(path)


def test_a_cut_off_safetensors_file(tmp_path: Path) -> None:
    path = tmp_path / 'w.safetensors'
    header = json.dumps({'a': _tensor(0, 12, [3])}).encode()
    _safetensors(path, header)
    assert read_checkpoint(path)['a'].tolist() == [0, 0, 0]
    path.write_bytes(path.read_bytes()[:-1])
    assert 'cut off or damaged' in _refused(path)


def test_links_are_followed_and_folders_are_not(tmp_path: Path) -> None:
    """PASSL's latest.pd is a link; one to itself is an error."""
    (tmp_path / 'epoch_1.pd').write_bytes(pickle.dumps(_ARRAYS, 2))
    (tmp_path / 'latest.pd').symlink_to('epoch_1.pd')
    assert len(read_checkpoint(tmp_path / 'latest.pd')) == 2
    (tmp_path / 'self.pd').symlink_to('self.pd')
    with pytest.raises(OSError, match='self.pd'):
        read_checkpoint(tmp_path / 'self.pd')


def test_an_archive_that_unpacks_to_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({'a': torch.zeros(2**20)}, tmp_path / 'a.pth')
    with (
        zipfile.ZipFile(tmp_path / 'a.pth') as source,
        zipfile.ZipFile(
            tmp_path / 'b.pth', 'w', zipfile.ZIP_DEFLATED
        ) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert read_checkpoint(tmp_path / 'b.pth')['a'].shape == (2**20,)
    monkeypatch.setattr(file_kind, '_LARGE', 2**20)
    assert 'parts would take' in _refused(tmp_path / 'b.pth')
