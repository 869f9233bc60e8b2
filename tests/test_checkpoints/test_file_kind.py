"""Files that are not checkpoints are named in one line."""

import gzip
import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from swav_plugin.checkpoints.file_kind import (
    CheckpointError,
    describe_other,
    find_container,
    find_damage,
)
from swav_plugin.checkpoints.formats import read_state_dict
from swav_plugin.checkpoints.safe_load import safe_load


def _picture(path: Path, format: str) -> None:
    Image.new('RGB', (8, 8)).save(path, format)


def _npz(path: Path) -> None:
    with open(path, 'wb') as file:
        np.savez(file, weight=np.ones(3))


def _npy(path: Path) -> None:
    with open(path, 'wb') as file:
        np.save(file, np.ones(3))


def _torchscript(path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 1)), path)


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('folder/epoch_1.pth', b'weights')


def _tar(path: Path) -> None:
    with tarfile.open(path, 'w') as archive:
        archive.addfile(tarfile.TarInfo('epoch_1.pth'))


def _gzip(path: Path) -> None:
    content = io.BytesIO()
    torch.save({'a': torch.ones(2)}, content)
    path.write_bytes(gzip.compress(content.getvalue()))


def _pickle(protocol: int) -> Callable[[Path], object]:
    content = {'model': {'a': np.ones(2)}}
    return lambda path: path.write_bytes(pickle.dumps(content, protocol))


def _bytes(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    'empty': (_bytes(b''), 'an empty file; copy'),
    'zeros': (_bytes(bytes(9999)), 'zeros'),
    'html': (_bytes(b'<!DOCTYPE html>\n<html>'), 'a web page'),
    'html with a mark': (_bytes(b'\xef\xbb\xbf\r\n<HTML>'), 'a web page'),
    'xml': (_bytes(b'<?xml version="1.0"?><Error/>'), 'a web page'),
    'lfs': (
        _bytes(b'version https://git-lfs.github.com/spec/v1\noid sha256:0'),
        'a Git LFS pointer; `git lfs pull`',
    ),
    'text': (_bytes('épochs = 8\n'.encode()), "text ('épochs = 8')"),
    'wide text': (_bytes('Größe'.encode('utf-16')), "text ('Größe')"),
    'cut text': (_bytes(('a' * 1023 + 'é').encode()), 'text ('),
    'a call in text': (_bytes(b"cos\nmkdir\n(S'x'\ntR."), 'text ('),
    'json': (_bytes(b'{"error": "no"}'), 'text (\'{"error": "no"}\')'),
    'png': (lambda path: _picture(path, 'png'), 'a picture'),
    'jpeg': (lambda path: _picture(path, 'jpeg'), 'a picture'),
    'gif': (lambda path: _picture(path, 'gif'), 'a picture'),
    'tiff': (lambda path: _picture(path, 'tiff'), 'a picture'),
    'webp': (lambda path: _picture(path, 'webp'), 'a picture'),
    'pdf': (_bytes(b'%PDF-1.7\n%\xe2\xe3'), 'a PDF'),
    'npz': (_npz, 'arrays of NumPy (.npz)'),
    'npy': (_npy, 'an array of NumPy (.npy)'),
    'hdf5': (_bytes(b'\x89HDF\r\n\x1a\n' + bytes(99)), 'an HDF5 file'),
    'torchscript': (_torchscript, 'a TorchScript archive'),
    'zip': (_zip, 'a zip archive that torch.save did not write; unpack'),
    'empty zip': (
        _bytes(b'PK\5\6' + bytes(18)),
        'a zip archive that torch.save did not write',
    ),
    'tar': (_tar, 'a tar archive; unpack'),
    'gzip': (_gzip, 'compressed by gzip; unpack'),
    'bzip2': (_bytes(b'BZh91AY&SY'), 'compressed by bzip2'),
    'xz': (_bytes(b'\xfd7zXZ\0\0'), 'compressed by xz'),
    'zstd': (_bytes(b'\x28\xb5\x2f\xfd\0'), 'compressed by zstd'),
    'pickle 2': (_pickle(2), 'a pickle that torch.save did not write'),
    'pickle 4': (_pickle(4), 'a pickle that torch.save did not write'),
    'other': (_bytes(b'\x7fELF\2\1\1\0'), 'a binary file of another kind'),
}


@pytest.mark.parametrize('kind', KINDS)
def test_a_file_of_another_kind_is_named(tmp_path: Path, kind: str) -> None:
    write, what = KINDS[kind]
    path = tmp_path / 'w.pth'
    write(path)
    with pytest.raises(CheckpointError) as caught:
        read_state_dict(path)
    message = str(caught.value)
    assert message.startswith(f'{path} is not a checkpoint but {what}')
    assert message.endswith('.') and not message.endswith('..')
    assert message.isprintable()  # one line
    assert 'SWAV_ALLOW' not in message and 'weights_only' not in message


def test_what_holds_weights_alone(tmp_path: Path) -> None:
    """Such files are read, but a training cannot go on from them."""
    path = tmp_path / 'w.pth'
    save_file({'a': torch.ones(2)}, path)
    with open(path, 'rb') as file:
        assert find_container(file) == 'safetensors'
        assert describe_other(file) is None and find_damage(file) is None
        assert file.tell() == 0
    assert read_state_dict(path)['a'].tolist() == [1, 1]
    with pytest.raises(CheckpointError, match='a safetensors file; turn it'):
        safe_load(path)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + b'a')
    with open(path, 'rb') as file:
        assert find_damage(file) == f'it has {size + 1} bytes and lists {size}'


@pytest.mark.parametrize('is_zip', [True, False])
def test_checkpoints_are_recognized(tmp_path: Path, is_zip: bool) -> None:
    path = tmp_path / 'picture.png'  # names do not matter
    torch.save(
        {'a': torch.ones(2)}, path, _use_new_zipfile_serialization=is_zip
    )
    with open(path, 'rb') as file:
        assert describe_other(file) is None
        assert file.tell() == 0
    assert read_state_dict(path)['a'].tolist() == [1, 1]
