"""Tests of reading checkpoints without running their code."""

import io
import os
import pickle
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from swav_plugin.checkpoints import loaders
from swav_plugin.checkpoints import safe_load as module
from swav_plugin.checkpoints.file_kind import CheckpointError
from swav_plugin.checkpoints.safe_load import safe_load


class _Attack:
    """Creates a folder when it is unpickled without care."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.proof),)


@pytest.fixture(params=[True, False], ids=['torch>=2.6', 'older torch'])
def loader(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run the test with both ways to restrict the unpickler."""
    if request.param and not torch.__version__ >= '2.6':
        pytest.skip('needs torch 2.6')
    monkeypatch.setattr(module, '_TORCH_ALLOWS_NAMES', request.param)
    monkeypatch.delenv(module.OVERRIDE, raising=False)


@pytest.fixture
def attack(tmp_path: Path) -> Path:
    """A checkpoint that creates `proof` beside itself."""
    path = tmp_path / 'attack.pth'
    torch.save({'state_dict': {}, 'x': _Attack(tmp_path / 'proof')}, path)
    return path


def _training_state() -> dict[str, Any]:
    """One of everything that mmengine's runner saves."""
    buffer = HistoryBuffer([0.5, 0.25], [1, 1])
    return {
        'state_dict': {'weight': torch.arange(3.0)},
        'message_hub': {
            'log_scalars': {'train/loss': buffer},
            'runtime_info': {'lr': np.float64(0.1), 'iter': 2, 'name': 'a'},
            'resumed_keys': {'train/loss': True},
        },
        'param_schedulers': [{'last_step': 2, '_global_step': 3}],
        'arrays': [
            np.array([value], dtype)
            for dtype, value in (
                ('?', True),
                ('u1', 1),
                ('u4', 2),
                ('i4', -3),
                ('f4', 0.5),
            )
        ],
    }


def _check_training_state(state: dict[str, Any]) -> None:
    """Compare with what `_training_state` returns."""
    assert state['state_dict']['weight'].tolist() == [0, 1, 2]
    hub = state['message_hub']
    assert hub['log_scalars']['train/loss'].mean() == 0.375
    assert hub['log_scalars']['train/loss'].statistics('min') == 0.25
    assert hub['runtime_info'] == {'lr': 0.1, 'iter': 2, 'name': 'a'}
    assert [array.tolist() for array in state['arrays']] == [
        [True],
        [1],
        [2],
        [-3],
        [0.5],
    ]


@pytest.mark.usefixtures('loader')
class TestBothLoaders:
    """Check what must hold for every version of torch."""

    @pytest.mark.parametrize('is_zip', [True, False])
    def test_training_state(self, tmp_path: Path, is_zip: bool) -> None:
        torch.save(
            _training_state(),
            tmp_path / 'a.pth',
            _use_new_zipfile_serialization=is_zip,
        )
        _check_training_state(safe_load(tmp_path / 'a.pth'))

    @pytest.mark.parametrize('folder', ['numpy.core', 'numpy._core'])
    def test_any_numpy(self, tmp_path: Path, folder: str) -> None:
        """numpy 2 renamed the module that old and new files name."""
        torch.save(_training_state(), tmp_path / 'a.pth')
        with (
            zipfile.ZipFile(tmp_path / 'a.pth') as source,
            zipfile.ZipFile(tmp_path / 'b.pth', 'w') as target,
        ):
            for name in source.namelist():
                data = source.read(name)
                if name.endswith('data.pkl'):
                    data = data.replace(b'numpy._core.', b'numpy.core.')
                    data = data.replace(b'numpy.core.', folder.encode() + b'.')
                    assert folder.encode() in data
                target.writestr(name, data)
        _check_training_state(safe_load(tmp_path / 'b.pth'))

    def test_attack_is_refused_by_name(self, attack: Path) -> None:
        with pytest.raises(
            ValueError,
            match=r'attack\.pth .* wants (posix|nt)\.mkdir\.'
            r'.*SWAV_ALLOW_UNSAFE_CHECKPOINTS=1',
        ):
            safe_load(attack)
        assert not attack.with_name('proof').exists()

    def test_attack_by_attribute(self, tmp_path: Path) -> None:
        """`getattr` is in every training state but reaches only its own."""

        class GlobalsOfMethod:
            def __reduce__(self) -> tuple:
                return getattr, (HistoryBuffer, '__init__')

        torch.save(GlobalsOfMethod(), tmp_path / 'a.pth')
        with pytest.raises(ValueError, match='wants builtins.getattr'):
            safe_load(tmp_path / 'a.pth')

    def test_override(
        self, attack: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv('SWAV_ALLOW_UNSAFE_CHECKPOINTS', '1')
        assert safe_load(attack)['x'] is None
        assert attack.with_name('proof').exists()

    def test_not_a_checkpoint(self, tmp_path: Path) -> None:
        with open(tmp_path / 'a.pth', 'wb') as file:
            pickle.dump({'a': 1}, file, protocol=2)
        with pytest.raises(CheckpointError, match='a.pth .* a pickle that'):
            safe_load(tmp_path / 'a.pth')


def test_mmengine_refuses(attack: Path) -> None:
    """onedl's mmengine would warn and run it."""
    with pytest.raises(ValueError, match='wants .*mkdir'):
        CheckpointLoader.load_checkpoint(str(attack))
    assert not attack.with_name('proof').exists()


def test_mmengine_refuses_urls(
    attack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.hub would run it without a word."""
    monkeypatch.setattr(loaders, 'fetch_url', lambda url, folder: attack)
    with pytest.raises(ValueError, match='wants .*mkdir'):
        CheckpointLoader.load_checkpoint('https://example.org/attack.pth?a=b')
    assert not attack.with_name('proof').exists()


@pytest.mark.parametrize('is_zip', [True, False])
@pytest.mark.parametrize('share', [0, 0.01, 0.5, 0.99])
def test_cut_off_files(share: float, is_zip: bool, tmp_path: Path) -> None:
    path = tmp_path / 'w.pth'
    torch.save(
        {'conv1.weight': torch.rand(999)},
        path,
        _use_new_zipfile_serialization=is_zip,
    )
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError) as caught:
        safe_load(path)
    what = 'cannot be read: it is cut' if share else 'not a checkpoint but an'
    assert str(caught.value).startswith(f'{path} ')
    assert what in str(caught.value)
    assert '\n' not in str(caught.value)
    assert 'SWAV_ALLOW' not in str(caught.value)


def test_every_damaged_block_is_found(tmp_path: Path) -> None:
    """torch loads such files, and trains on the zeros."""
    path = tmp_path / 'w.pth'
    weights = {f'layer{i}': torch.rand(50_000) + 1 for i in range(10)}
    torch.save({'state_dict': weights}, path)
    whole = path.read_bytes()
    missed_by_torch = 0
    for begin in range(0, len(whole) - 4096, len(whole) // 60):
        damaged = bytearray(whole)
        damaged[begin : begin + 4096] = bytes(4096)
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match='damaged|zeros'):
            safe_load(path)
        try:
            torch.load(path)
            missed_by_torch += 1
        except Exception:
            pass
    assert missed_by_torch > 30


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / 'w.pth'
    torch.save({'weight': torch.ones(1000)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.ones(4).numpy().tobytes()) + 500] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match='checksum of w/data/0 in it'):
        safe_load(path)


def test_files_without_checksums_are_read(tmp_path: Path) -> None:
    """torch writes them on demand."""
    if not hasattr(torch.serialization, 'set_crc32_options'):
        pytest.skip('needs torch 2.6')
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({'weight': torch.ones(3)}, tmp_path / 'w.pth')
    finally:
        torch.serialization.set_crc32_options(True)
    assert safe_load(tmp_path / 'w.pth')['weight'].tolist() == [1, 1, 1]


def test_open_files_are_read(tmp_path: Path) -> None:
    """mmengine has those from object stores in memory."""
    torch.save(_training_state(), tmp_path / 'a.pth')
    content = io.BytesIO((tmp_path / 'a.pth').read_bytes())
    _check_training_state(safe_load(content))
    with pytest.raises(CheckpointError, match='is not a checkpoint but text'):
        safe_load(io.BytesIO(b'no weights'))


def test_a_whole_file_that_torch_does_not_read(tmp_path: Path) -> None:
    """Such as one with pickle's protocol 4, which it writes but refuses."""
    if not torch.__version__ >= '2.6':
        pytest.skip('older torch reads it')
    torch.save({'a': torch.ones(2)}, tmp_path / 'a.pth', pickle_protocol=4)
    with pytest.raises(CheckpointError) as caught:
        safe_load(tmp_path / 'a.pth')
    assert 'file is intact' in str(caught.value)
    assert 'weights_only' not in str(caught.value)


class _Call:
    """Unpickles into a call."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple:
        return self.call


class _Build:
    """Unpickles into a call whose result gets a state."""

    def __init__(self, function: Any, args: tuple, state: Any) -> None:
        self.call = function, args, state

    def __reduce__(self) -> tuple:
        return self.call


_rebuild_array = np.empty(0).__reduce__()[0]
_rebuild_scalar = np.float64(0).__reduce__()[0]
_EMPTY = (np.ndarray, (0,), b'b')
_OBJECT_STATE = (1, (1,), np.dtype(object), False, [1])
_POINTERS = b'A' * 8


@pytest.mark.usefixtures('loader')
@pytest.mark.parametrize(
    'value',
    [
        _Call(np.ndarray, (1,), 'O', _POINTERS),
        _Call(np.ndarray, (1,), 'f8', _POINTERS),
        _Call(np.dtype, 'O'),
        _Call(np.dtype, [('a', 'O')]),
        _Call(np.dtype, 'f8,O'),
        _Build(np.dtype, ('V8',), (3, '|', None, ('a',), {}, 8, 1, 27)),
        _Build(np.dtype, ('f8',), (3, '<', None, ('a',), {}, 8, 1, 0)),
        np.array([None]),
        np.array([(1, 'a')], [('a', 'i4'), ('b', 'O')]),
        np.array(['text']),
        _Build(_rebuild_array, _EMPTY, _OBJECT_STATE),
        _Build(_rebuild_array, _EMPTY, (1, (9,), np.dtype('f8'), False, b'')),
        _Build(_rebuild_array, _EMPTY, (1, (-1,), np.dtype('f8'), False, b'')),
        _Build(_rebuild_array, _EMPTY, (1, (1,), 'O', False, _POINTERS)),
        _Build(_rebuild_array, _EMPTY, {'shape': 1}),
        _Call(_rebuild_array, *_EMPTY),
        _Call(_rebuild_scalar, np.dtype('O'), _POINTERS),
        _Call(_rebuild_scalar, np.dtype('f8'), b'1'),
        _Call(HistoryBuffer, np.ones(2), np.ones(2), -1),
        _Call(HistoryBuffer, ['ab'], ['ab']),
        _Call(getattr, HistoryBuffer, '__globals__'),
        _Call(getattr, np.ndarray, 'tofile'),
    ],
)
def test_what_is_no_plain_number_is_refused(
    value: Any, tmp_path: Path
) -> None:
    try:
        torch.save({'state_dict': {}, 'x': value}, tmp_path / 'a.pth')
    except Exception as error:  # pickle checks some calls when it writes
        pytest.fail(f'not written: {error}')
    with pytest.raises(CheckpointError) as caught:
        safe_load(tmp_path / 'a.pth')
    assert '\n' not in str(caught.value)


@pytest.mark.usefixtures('loader')
def test_arrays_of_every_number(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = [
        np.asfortranarray(rng.integers(0, 2, (2, 3, 4)).astype(code))
        for code in '? i1 u1 i2 u2 i4 u4 i8 u8 f2 f4 f8 c8 c16 >f4 >i8'.split()
    ]
    arrays += [np.empty((0, 3)), np.array(2.5), np.arange(12.0)[::3]]
    path = tmp_path / 'a.pth'
    torch.save({'a': arrays, 'b': (np.float32(0.5), np.int64(3))}, path)
    found = safe_load(path)
    for array, other in zip(arrays, found['a'], strict=True):
        assert type(other) is np.ndarray and other.dtype == array.dtype
        assert other.shape == array.shape and (other == array).all()
        other[...] = 1  # it can be written to
    assert found['b'] == (0.5, 3)


ALLOWED = """
import torch, mmengine.runner, torch.serialization as s
before = {*s.get_safe_globals()}
import swav_plugin.registry, swav_plugin.engine
from swav_plugin.checkpoints.safe_load import safe_load
import sys
safe_load(sys.argv[1])
new = {*s.get_safe_globals()} - before
print([name for name in map(str, new) if 'torch.' not in name])
try:
    torch.load(sys.argv[1], weights_only=True)
except Exception as error:
    print('refused')
"""


def test_the_users_own_loads_are_as_strict_as_before(tmp_path: Path) -> None:
    if not torch.__version__ >= '2.6':
        pytest.skip('older torch has no list')
    torch.save(_training_state(), tmp_path / 'a.pth')
    printed = subprocess.run(
        [sys.executable, '-c', ALLOWED, tmp_path / 'a.pth'],
        env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed.splitlines()[-2:] == ['[]', 'refused']


def test_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    torch.save(_training_state(), tmp_path / 'a.pth')
    with ThreadPoolExecutor(8) as pool:
        for state in pool.map(safe_load, [tmp_path / 'a.pth'] * 64):
            _check_training_state(state)


@pytest.mark.parametrize('first', ['swav_plugin', 'mmengine.runner'])
def test_the_package_alone_makes_mmengine_safe(
    attack: Path, first: str
) -> None:
    code = f"""
import {first}, swav_plugin, sys
from mmengine.runner import load_checkpoint, CheckpointLoader
from mmengine.runner.checkpoint import _load_checkpoint
for load in CheckpointLoader.load_checkpoint, _load_checkpoint:
    try:
        load(sys.argv[1])
    except ValueError as error:
        print('wants' in str(error))
"""
    printed = subprocess.run(
        [sys.executable, '-c', code, attack],
        env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed.splitlines()[-1] == 'True'
    assert printed.count('True') == 2
    assert not attack.with_name('proof').exists()


def test_missing_file() -> None:
    with pytest.raises(FileNotFoundError, match='no checkpoint nowhere.pth'):
        CheckpointLoader.load_checkpoint('nowhere.pth')


def test_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='is a folder; give a file in'):
        CheckpointLoader.load_checkpoint(str(tmp_path))
