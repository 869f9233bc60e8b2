"""Tell checkpoints from other files, and whole ones from damaged ones."""

import codecs
import json
import zipfile
import zlib
from typing import IO

# A file in torch's format of before 1.6 holds this number near its start.
_MAGIC = b'\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'
_FIRST_BYTES = b'\x80\x02' + _MAGIC

_PROTOCOLS = (b'\2', b'\3', b'\4', b'\5')  # of pickles
_MAX_HEADER = 2**27  # of safetensors, in bytes
_LARGE = 2**30  # bytes that any archive may unpack to

_PICTURE = 'a picture; give the file with the weights'
_UNPACK = 'and give the file in it'
_REWRITE = 'read its arrays and write them as tensors with torch.save'

# How files begin, what they are, and what to do about it.
_BEGINNINGS = (
    (
        b'version https://git-lfs',
        'a Git LFS pointer; `git lfs pull` in its repository fetches the file',
    ),
    (b'\x89PNG\r\n', _PICTURE),
    (b'\xff\xd8\xff', _PICTURE),
    (b'GIF8', _PICTURE),
    (b'II*\0', _PICTURE),
    (b'MM\0*', _PICTURE),
    (b'RIFF', _PICTURE),  # WebP
    (b'%PDF', 'a PDF; give the file with the weights'),
    (b'\x1f\x8b', f'compressed by gzip; unpack it {_UNPACK}'),
    (b'BZh', f'compressed by bzip2; unpack it {_UNPACK}'),
    (b'\xfd7zXZ\0', f'compressed by xz; unpack it {_UNPACK}'),
    (b'\x28\xb5\x2f\xfd', f'compressed by zstd; unpack it {_UNPACK}'),
    (b'7z\xbc\xaf', f'a 7z archive; unpack it {_UNPACK}'),
    (b'Rar!', f'a RAR archive; unpack it {_UNPACK}'),
    (b'\x93NUMPY', f'an array of NumPy (.npy); {_REWRITE}'),
    (b'\x89HDF\r\n', f'an HDF5 file, such as Keras writes; {_REWRITE}'),
)

_TORCHSCRIPT = (
    'a TorchScript archive, which is a program with weights; write its '
    'weights alone with torch.save(torch.jit.load(IN).state_dict(), OUT)'
)
# Files of weights that torch.save did not write, and what to do about one
# where more than weights is needed.
NOT_TORCH = {
    'safetensors': (
        'a safetensors file; turn it into one with '
        'torch.save(safetensors.torch.load_file(IN), OUT)'
    ),
    'pickle': (
        'a pickle that torch.save did not write; write its weights as '
        'tensors with torch.save'
    ),
}


class CheckpointError(ValueError):
    """A file that is not a checkpoint, or not a good one."""


def find_container(file: IO[bytes]) -> str:
    """Return what holds the weights: 'torch', 'safetensors' or 'pickle'.

    Args:
        file: Open for reading, at its start, where it is left. What
            `describe_other` names counts as torch's, whose reader names it.
    """
    head = file.read(1024)
    file.seek(0)
    length = int.from_bytes(head[:8], 'little')
    if head[8:9] == b'{' and length < _MAX_HEADER:
        return 'safetensors'
    is_torch = _MAGIC in head[:40] or _FIRST_BYTES.startswith(head)
    if head[:1] == b'\x80' and head[1:2] in _PROTOCOLS and not is_torch:
        return 'pickle'
    return 'torch'


def describe_other(file: IO[bytes]) -> str | None:
    """Say what a file is that is not a checkpoint, and what to do about it.

    Args:
        file: Open for reading, at its start, where it is left.

    Returns:
        Text to follow 'X is not a checkpoint but '. None for what torch.save
        has written, whole or not, and for what else may hold weights.
    """
    if find_container(file) != 'torch':
        return None
    head = file.read(1024)
    file.seek(0)
    if not head:
        return 'an empty file; copy or download it again'
    if not head.strip(b'\0'):
        return 'zeros, as a broken copy leaves them; copy or download it again'
    if head.startswith(b'PK'):
        return _describe_zip(file)
    if _MAGIC in head[:40] or _FIRST_BYTES.startswith(head):
        return None
    for beginning, what in _BEGINNINGS:
        if head.startswith(beginning):
            return what
    if head[257:262] == b'ustar':
        return f'a tar archive; unpack it {_UNPACK}'
    text = _decode(head)
    if text is None:
        return 'a binary file of another kind; give one that torch.save wrote'
    if text.lower().startswith(('<!doctype', '<html', '<?xml', '<head')):
        return (
            'a web page: its address is that of a page, or the server '
            'answered with one; download the file itself'
        )
    begin = ' '.join(text.split())[:40]
    return f'text ({begin!r}); give a file that torch.save wrote'


def _describe_zip(file: IO[bytes]) -> str | None:
    """Do so for a zip archive; None also for one that is damaged."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except Exception:  # whatever garbage makes of it; see `find_damage`
        names = None
    file.seek(0)
    if names is None:
        return None
    ends = {name.rpartition('/')[2] for name in names}
    if 'constants.pkl' in ends:
        return _TORCHSCRIPT
    if 'data.pkl' in ends:
        return None
    if names and all(name.endswith('.npy') for name in names):
        return f'arrays of NumPy (.npz); {_REWRITE}'
    return f'a zip archive that torch.save did not write; unpack it {_UNPACK}'


def _decode(head: bytes) -> str | None:
    """Return the first characters of a text file; None if it is not one."""
    is_wide = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    name = 'utf-16' if is_wide else 'utf-8-sig'
    try:
        # The last character may be cut in two.
        text = codecs.getincrementaldecoder(name)().decode(head)
    except UnicodeDecodeError:
        return None
    is_text = all(char.isprintable() or char.isspace() for char in text)
    return text.lstrip() if is_text else None


def has_checksums(file: IO[bytes]) -> bool:
    """Return True for a file in torch's format of 1.6 and later.

    Args:
        file: A checkpoint, open for reading, at its start, where it is left.
    """
    is_zip = file.read(2) == b'PK'
    file.seek(0)
    return is_zip


def find_damage(file: IO[bytes]) -> str | None:
    """Say what is wrong with the bytes of a checkpoint, if anything.

    torch does not look at the checksums that torch.save writes, one for each
    tensor: it loads a file with a block of zeros in it. Its format of before
    1.6 has none.

    Args:
        file: Open for reading, at its start, where it is left.
    """
    if find_container(file) == 'safetensors':
        return _find_missing_bytes(file)
    if not has_checksums(file):
        return None
    try:
        with zipfile.ZipFile(file) as archive:
            # torch.save compresses nothing.
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > max(_LARGE, 10 * file.seek(0, 2)):
                return f'its parts would take {unpacked / 2**30:.1f} GiB'
            # torch.serialization.set_crc32_options(False) writes zeros.
            has_sums = any(entry.CRC for entry in archive.infolist())
            part = archive.testzip() if has_sums else None
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        OSError,
        RuntimeError,
        ValueError,
    ) as error:
        return f'it is not a whole zip archive ({error})'
    finally:
        file.seek(0)
    return part and f'the checksum of {part} in it is wrong'


def _find_missing_bytes(file: IO[bytes]) -> str | None:
    """Say whether a safetensors file is shorter or longer than it says."""
    length = int.from_bytes(file.read(8), 'little')
    try:
        header = json.loads(file.read(length))
        header.pop('__metadata__', None)
        ends = [entry['data_offsets'][1] for entry in header.values()]
        expected = 8 + length + max(ends, default=0)
    except Exception:  # whatever garbage makes of it
        return 'its list of tensors is broken'
    found = file.seek(0, 2)
    file.seek(0)
    if found != expected:
        return f'it has {found} bytes and lists {expected}'
    return None
