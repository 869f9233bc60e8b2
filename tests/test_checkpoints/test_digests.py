"""What is noted beside a checkpoint tells when its bytes have changed."""

import json
import os
from pathlib import Path

import pytest
import torch

from swav_plugin.checkpoints.digests import NOTE, find_change, note_digest
from swav_plugin.checkpoints.file_kind import CheckpointError
from swav_plugin.checkpoints.newest import find_checkpoint
from swav_plugin.checkpoints.safe_load import safe_load


def saved(folder: Path, number: int, is_zip: bool = True) -> Path:
    path = folder / f'epoch_{number}.pth'
    torch.save(
        dict(weight=torch.arange(1000.0)),
        path,
        _use_new_zipfile_serialization=is_zip,
    )
    note_digest(path)
    return path


def spoil(path: Path, content: bytes) -> None:
    """Change a file as a bad disk does: its time stays."""
    status = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize('is_zip', [True, False])
def test_every_change_is_found(tmp_path: Path, is_zip: bool) -> None:
    path = saved(tmp_path, 2, is_zip)
    older = saved(tmp_path, 1, is_zip)
    assert find_change(path) is None
    assert torch.equal(safe_load(path)['weight'], torch.arange(1000.0))
    content = path.read_bytes()
    for position in (len(content) // 2, len(content) - 1):
        bad = bytearray(content)
        bad[position] ^= 1
        spoil(path, bytes(bad))
        with pytest.raises(CheckpointError, match='damaged.*SHA-256 is not'):
            safe_load(path)
        assert find_checkpoint(str(tmp_path)) == str(older)
    spoil(path, content[:-1])
    with pytest.raises(CheckpointError, match=r'\d bytes, \d+ were saved'):
        safe_load(path)


def test_files_of_others_are_not_compared(tmp_path: Path) -> None:
    path = saved(tmp_path, 1)
    spoil(path, b'')
    os.utime(path, ns=(0, 0))  # written by something else since
    assert find_change(path) is None
    assert find_change(tmp_path / 'epoch_7.pth') is None


def test_the_note_has_the_files_that_are_there(tmp_path: Path) -> None:
    saved(tmp_path, 1).unlink()
    path = saved(tmp_path, 2)
    note = json.loads((tmp_path / NOTE).read_text())
    assert [*note] == ['epoch_2.pth']
    assert note['epoch_2.pth']['size'] == path.stat().st_size
    for text in ('', '[1]', '{"epoch_2.pth": 3}', '\udce9'):
        (tmp_path / NOTE).write_text(text, errors='surrogateescape')
        assert find_change(path) is None
        note_digest(path)
