"""Tests of reading checkpoints without running their code."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

import swav_plugin.registry  # noqa: F401  installs the safe loader
from swav_plugin.checkpoints import safe_load as module
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
        with pytest.raises((ValueError, RuntimeError), match='a.pth|magic'):
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
    monkeypatch.setattr(module, 'download', lambda url, folder: attack)
    with pytest.raises(ValueError, match='wants .*mkdir'):
        CheckpointLoader.load_checkpoint('https://example.org/attack.pth?a=b')
    assert not attack.with_name('proof').exists()


@pytest.mark.parametrize('share', [0, 0.5])
def test_cut_off_files(share: float, tmp_path: Path) -> None:
    path = tmp_path / 'w.pth'
    torch.save({'conv1.weight': torch.rand(99)}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match='w.pth cannot be read: it is cut'):
        safe_load(path)


def test_missing_file() -> None:
    with pytest.raises(FileNotFoundError, match='no checkpoint nowhere.pth'):
        CheckpointLoader.load_checkpoint('nowhere.pth')
