"""Files and folders are there as a whole or not at all."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.fileio import get_file_backend
from mmengine.runner import save_checkpoint

from swav_plugin.checkpoints import atomic
from swav_plugin.checkpoints.atomic import (
    new_folder,
    open_atomic,
    write_atomic,
)
from swav_plugin.engine import AtomicBackend

# Writes the new checkpoint slowly, so that there is time to kill it.
WRITER = """
import io, os, sys, time
import swav_plugin.checkpoints.atomic as module

class SlowFile(io.FileIO):
    def write(self, data):
        super().write(data[:100])
        print('half', flush=True)
        time.sleep(60)

module.open = SlowFile
module.AtomicBackend().put(bytes(1000), sys.argv[1])
"""


def test_checkpoint_hook_gets_it_by_name(tmp_path: Path) -> None:
    path = tmp_path / 'new/epoch_1.pth'
    backend_args = dict(backend='atomic')
    assert isinstance(
        get_file_backend(path, backend_args=backend_args), AtomicBackend
    )
    save_checkpoint(
        dict(weight=torch.ones(3)), str(path), backend_args=backend_args
    )
    assert torch.equal(torch.load(path)['weight'], torch.ones(3))
    assert os.listdir(path.parent) == ['epoch_1.pth']


def test_killed_in_the_middle_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'epoch_1.pth'
    AtomicBackend().put(b'old', path)
    process = subprocess.Popen(
        [sys.executable, '-c', WRITER, path], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b'half\n'
    process.kill()
    process.wait()
    process.stdout.close()
    assert path.read_bytes() == b'old'
    (left,) = {*tmp_path.iterdir()} - {path}
    assert left.stat().st_size == 100
    # It might belong to a process that is alive.
    AtomicBackend().put(b'new', path)
    assert path.read_bytes() == b'new' and left.exists()
    # What the dead leave does not stay for ever, whatever is written next.
    monkeypatch.setattr(atomic, '_DEAD_AFTER_S', 0)
    AtomicBackend().put(b'next', tmp_path / 'epoch_2.pth')
    assert sorted(os.listdir(tmp_path)) == ['epoch_1.pth', 'epoch_2.pth']


def test_failed_write_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(fd: int) -> None:
        raise OSError('No space left on device')

    path = tmp_path / 'epoch_1.pth'
    AtomicBackend().put(b'old', path)
    monkeypatch.setattr(os, 'fsync', full_disk)
    with pytest.raises(OSError, match='No space left'):
        AtomicBackend().put(b'new', path)
    assert path.read_bytes() == b'old'
    assert os.listdir(tmp_path) == ['epoch_1.pth']


def test_an_error_of_the_caller_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / 'results.json'
    write_atomic(path, 'old')
    with pytest.raises(KeyboardInterrupt):
        with open_atomic(path) as file:
            file.write(b'ne')
            raise KeyboardInterrupt
    assert path.read_text() == 'old'
    assert os.listdir(tmp_path) == ['results.json']


def test_two_writers_of_a_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / 'results.json'
    with open_atomic(path) as first:
        first.write(b'1' * 9)
        with open_atomic(path) as second:
            second.write(b'2' * 5)
        assert path.read_bytes() == b'2' * 5
        first.write(b'1')
    assert path.read_bytes() == b'1' * 10
    assert os.listdir(tmp_path) == ['results.json']


def test_a_folder_is_there_when_it_is_filled(tmp_path: Path) -> None:
    folder = tmp_path / 'in/digits'
    with new_folder(folder) as unfinished:
        unfinished.mkdir()
        (unfinished / '1.png').touch()
        assert not folder.exists()
    assert os.listdir(folder) == ['1.png']
    assert os.listdir(folder.parent) == ['digits']
    with pytest.raises(FileExistsError, match='remove it to make it again'):
        with new_folder(folder):
            pass


def test_a_folder_that_failed_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        with new_folder(tmp_path / 'new') as folder:
            folder.mkdir()
            (folder / 'half').touch()
            raise ConnectionError('gone')
    assert os.listdir(tmp_path) == []
    with new_folder(tmp_path / 'new') as folder:
        folder.mkdir()
    assert os.listdir(tmp_path / 'new') == []


def test_two_writers_of_a_folder_do_not_mix(tmp_path: Path) -> None:
    folder = tmp_path / 'digits'
    with pytest.raises(OSError):
        with new_folder(folder) as first:
            first.mkdir()
            (first / '1.png').touch()
            with new_folder(folder) as second:
                second.mkdir()
                (second / '2.png').touch()
    assert os.listdir(tmp_path) == ['digits']
    assert os.listdir(folder) == ['2.png']


def test_a_folder_of_the_dead_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / '.digits.0123456789ab.unfinished'
    (left / 'digits').mkdir(parents=True)
    (left / 'digits/1.png').touch()
    write_atomic(tmp_path / 'a', '')
    assert left.exists()
    monkeypatch.setattr(atomic, '_DEAD_AFTER_S', 0)
    write_atomic(tmp_path / 'a', '')
    assert os.listdir(tmp_path) == ['a']


def test_text_and_permissions(tmp_path: Path) -> None:
    path = tmp_path / 'note'
    AtomicBackend().put_text('é', path, encoding='latin-1')
    assert path.read_bytes() == b'\xe9'
    write_atomic(path, 'é')
    assert path.read_bytes() == b'\xc3\xa9'
    # Colleagues can read it as any other new file.
    other = tmp_path / 'other'
    other.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(
        other.stat().st_mode
    )
