"""Write features of many images to a file, whole or not at all; read them.

N images, C channels of a feature. The features of .npy and .safetensors are
one (N, C) float32 array; the names of the images are in a .txt file of the
same name, one a line. A .parquet file has both as columns, 'file' and
'features'.
"""

import json
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from swav_plugin.checkpoints.atomic import open_atomic
from swav_plugin.compat.stack import install_hint
from swav_plugin.engine.errors import UsageError

_LONGEST_HEADER = 2**20  # of .safetensors with one tensor
Blocks = Iterable[np.ndarray]  # (n, C) float32 each, N rows together


class ImageFeatures(NamedTuple):
    """Features of N images and where each image came from.

    Attributes:
        features: (N, C) float32, on the CPU.
        files: N paths; '' for an image that did not come from a file.
    """

    features: Tensor
    files: list[str]


def check_out(
    out: Path, files: Sequence[str], overwrite: bool, source: Any = None
) -> None:
    """Check that features can be written to a file.

    Args:
        out: The file.
        files: The names that go into it.
        overwrite: Whether it may exist.
        source: What the user named as images; never overwritten.

    Raises:
        UsageError: Its suffix is unknown, a package is missing, it exists,
            its folder cannot be written to, or a name cannot be written.
    """
    _check_suffix(out)
    check_folder_of(out)
    for path in (out, names_file(out), unreadable_file(out)):
        if path is None:
            continue
        if isinstance(source, (str, os.PathLike)) and (
            os.path.realpath(path) == os.path.realpath(source)
        ):
            raise UsageError(
                f'{path} would replace the list of images; give another name'
            )
        if path.is_dir():
            raise UsageError(f'{path} is a folder; give another name')
        if path.exists() and not overwrite:
            raise UsageError(
                f'{path} exists; give another name, or --overwrite '
                '(overwrite=True) to replace it'
            )
    for name in files:
        if '\n' in name and names_file(out) is not None:
            raise UsageError(
                f'{name!r} has a line break, which {names_file(out)} cannot '
                'hold; rename it, or write .parquet'
            )


def _check_suffix(out: Path) -> None:
    """Check that a file of features is in a format that can be handled.

    Raises:
        UsageError: Its suffix is unknown, or a package is missing.
    """
    if out.suffix not in _WRITERS:
        raise UsageError(
            f'{out} ends with {out.suffix!r}; features are in files that end '
            f'with {", ".join(_WRITERS)}'
        )
    if out.suffix == '.parquet' and find_spec('pyarrow') is None:
        raise UsageError(
            f'{out} needs pyarrow: {install_hint("parquet")}, or '
            'use .npy or .safetensors'
        )


def check_folder_of(out: Path) -> None:
    """Check that a file or a folder can be made where it is to be.

    Raises:
        UsageError: It cannot.
    """
    parent = next(each for each in out.absolute().parents if each.exists())
    if not parent.is_dir():
        raise UsageError(
            f'{out} cannot be made: {parent} is a file; give another name'
        )
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(
            f'{out} cannot be made: {parent} may not be written to; give '
            'another name'
        )


def names_file(out: Path) -> Path | None:
    """Return where the names of the images go; None if into `out` itself."""
    return None if out.suffix == '.parquet' else out.with_suffix('.txt')


def unreadable_file(out: Path) -> Path:
    """Return where images that cannot be read are listed, if there are any."""
    return out.with_suffix('.unreadable.txt')


def write_features(
    out: Path,
    files: Sequence[str],
    width: int,
    blocks: Blocks,
    unreadable: Iterable[object] = (),
) -> None:
    """Write features block by block, and what belongs beside them.

    Args:
        out: The file; what is there is replaced.
        files: N names.
        width: C.
        blocks: The rows, in order.
        unreadable: A line for each image that was left out; if there are
            none, an older list goes.
    """
    lines = {unreadable_file(out): [*map(str, unreadable)]}
    names = names_file(out)
    if names is not None:
        lines[names] = [*files]
    with ExitStack() as stack:
        # Opened first, so that it appears last: when it is there, all is.
        file = stack.enter_context(open_atomic(out))
        for path, content in lines.items():
            if content:
                # One line each, also for a name with a line break.
                text = ''.join(
                    line.replace('\n', '\\n') + '\n' for line in content
                )
                # File names may be any bytes, as in os.listdir.
                stack.enter_context(open_atomic(path)).write(
                    text.encode(errors='surrogateescape')
                )
        _WRITERS[out.suffix](file, files, width, blocks)
    if not lines[unreadable_file(out)]:
        unreadable_file(out).unlink(missing_ok=True)


def _write_npy(
    file: IO[bytes], files: Sequence[str], width: int, blocks: Blocks
) -> None:
    """Write NumPy's format."""
    header = dict(descr='<f4', fortran_order=False, shape=(len(files), width))
    np.lib.format.write_array_header_1_0(file, header)
    _write_rows(file, blocks)


def _write_safetensors(
    file: IO[bytes], files: Sequence[str], width: int, blocks: Blocks
) -> None:
    """Write one tensor, 'features', in the format of safetensors."""
    tensor = dict(
        dtype='F32',
        shape=[len(files), width],
        data_offsets=[0, 4 * len(files) * width],
    )
    header = json.dumps(dict(features=tensor)).encode()
    header += b' ' * (-len(header) % 8)
    file.write(struct.pack('<Q', len(header)) + header)
    _write_rows(file, blocks)


def _write_rows(file: IO[bytes], blocks: Blocks) -> None:
    """Write the bytes of rows."""
    for block in blocks:
        file.write(np.ascontiguousarray(block, '<f4').data)


def _write_parquet(
    file: IO[bytes], files: Sequence[str], width: int, blocks: Blocks
) -> None:
    """Write a table of names and lists of C numbers."""
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema(
        [
            ('file', pyarrow.string()),
            ('features', pyarrow.list_(pyarrow.float32(), width)),
        ]
    )
    start = 0
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for block in blocks:
            names = [
                name.encode(errors='surrogateescape').decode(
                    errors='backslashreplace'
                )
                for name in files[start : start + len(block)]
            ]
            start += len(block)
            rows = pyarrow.FixedSizeListArray.from_arrays(
                pyarrow.array(block.reshape(-1)), width
            )
            table = pyarrow.Table.from_arrays([names, rows], schema=schema)
            writer.write_table(table)


_WRITERS: dict[
    str, Callable[[IO[bytes], Sequence[str], int, Blocks], None]
] = {
    '.npy': _write_npy,
    '.safetensors': _write_safetensors,
    '.parquet': _write_parquet,
}


def read_features(out: str | Path) -> ImageFeatures:
    """Read what `extract_features` or `swav extract` has written.

    Features of .npy and .safetensors are mapped: they are read from the disk
    when they are used.

    Raises:
        FileNotFoundError: The file, or the names beside it, do not exist.
        UsageError: It is not such a file, or a package is missing.
    """
    out = Path(out)
    _check_suffix(out)
    names = names_file(out)
    for path in filter(None, (out, names)):
        if not path.is_file():
            raise FileNotFoundError(
                f'there is no file {path}; `swav extract` writes {out.name}, '
                'with the names of the images'
            )
    try:
        rows, files = _READERS[out.suffix](out)
    except _NOT_THEIRS as error:
        raise UsageError(
            f'{out} is damaged, or `swav extract` has not written it: {error}'
        ) from error
    if names is not None:
        text = names.read_bytes().decode(errors='surrogateescape')
        files = text.split('\n')[:-1]
    if rows.ndim != 2 or rows.dtype != np.float32 or len(files) != len(rows):
        raise UsageError(
            f'{out} has a {rows.dtype} array of shape {rows.shape} and '
            f'{len(files):,} names; `swav extract` writes (N, C) float32 and '
            'N names'
        )
    return ImageFeatures(torch.from_numpy(rows), files)


def _read_npy(out: Path) -> tuple[np.ndarray, list[str]]:
    """Map NumPy's format; names are elsewhere."""
    return np.load(out, mmap_mode='c'), []


def _read_safetensors(out: Path) -> tuple[np.ndarray, list[str]]:
    """Map the tensor 'features'; names are elsewhere."""
    with open(out, 'rb') as file:
        (length,) = struct.unpack('<Q', file.read(8))
        tensor = json.loads(file.read(min(length, _LONGEST_HEADER)))
    features = tensor['features']
    if features['dtype'] != 'F32':
        raise ValueError(f'features are {features["dtype"]}')
    begin, _ = features['data_offsets']
    shape = tuple(features['shape'])
    return np.memmap(out, '<f4', 'c', 8 + length + begin, shape), []


def _read_parquet(out: Path) -> tuple[np.ndarray, list[str]]:
    """Read the table of names and features."""
    import pyarrow.parquet

    table: Any = pyarrow.parquet.read_table(out)
    column = table['features'].combine_chunks()
    rows = column.flatten().to_numpy().reshape(len(table), -1)
    return rows.copy(), table['file'].to_pylist()


# What the parsers of three formats raise on a file of another kind.
_NOT_THEIRS = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    EOFError,
    RecursionError,
    struct.error,
)

_READERS: dict[str, Callable[[Path], tuple[np.ndarray, list[str]]]] = {
    '.npy': _read_npy,
    '.safetensors': _read_safetensors,
    '.parquet': _read_parquet,
}
