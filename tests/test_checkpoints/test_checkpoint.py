"""A checkpoint is found, hashed and read when that is asked for, and once."""

import hashlib
from pathlib import Path

import pytest
import torch

from swav_plugin.checkpoints import Checkpoint, checkpoint, read_checkpoint


def test_it_is_read_and_hashed_once(tmp_path: Path, opened: list[str]) -> None:
    path = tmp_path / 'epoch_8.pth'
    torch.save({'conv1.weight': torch.ones(2)}, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    named = Checkpoint(path)
    opened.clear()
    for _ in range(2):
        assert named.weights['conv1.weight'].tolist() == [1, 1]
    assert opened == [str(path)]
    for _ in range(2):
        assert named.sha256 == sha256
    assert opened == [str(path)] * 2
    named.drop()
    named.drop()  # there is nothing left to drop
    assert named.weights['conv1.weight'].tolist() == [1, 1]
    assert opened == [str(path)] * 3


def test_it_is_found_once_and_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = []

    def find(source: str) -> Path:
        sources.append(source)
        return tmp_path / 'w.pth'

    monkeypatch.setattr(checkpoint, 'checkpoint_path', find)
    named = Checkpoint('https://x.org/swav.pth.tar')
    assert str(named) == 'https://x.org/swav.pth.tar'
    assert named.name == 'swav'
    assert sources == []
    torch.save({'conv1.weight': torch.ones(2)}, tmp_path / 'w.pth')
    assert named.path == tmp_path / 'w.pth'
    assert named.weights and named.sha256
    assert sources == ['https://x.org/swav.pth.tar']


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='no checkpoint .*absent'):
        read_checkpoint(tmp_path / 'absent.pth')
