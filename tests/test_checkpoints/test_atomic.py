"""A checkpoint is there as a whole or not at all."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.fileio import get_file_backend
from mmengine.runner import save_checkpoint

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


def test_killed_in_the_middle_keeps_the_old_file(tmp_path: Path) -> None:
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
    assert (tmp_path / 'epoch_1.pth.tmp').stat().st_size == 100
    # What it left does not stay for ever.
    AtomicBackend().put(b'new', path)
    assert path.read_bytes() == b'new'
    assert os.listdir(tmp_path) == ['epoch_1.pth']


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


def test_text_and_permissions(tmp_path: Path) -> None:
    path = tmp_path / 'note'
    AtomicBackend().put_text('é', path, encoding='latin-1')
    assert path.read_bytes() == b'\xe9'
    # Colleagues can read it as any other new file.
    other = tmp_path / 'other'
    other.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(
        other.stat().st_mode
    )
