"""Write TIFF files of kinds that Pillow does not write, from the format's own
description (TIFF revision 6.0)."""

import struct
import zlib
from pathlib import Path

import numpy as np

WHITE_IS_0, BLACK_IS_0, RGB, CMYK = 0, 1, 2, 5


def write_tiff(
    path: Path,
    values: np.ndarray,
    photometric: int,
    order: str = '<',
    is_planar: bool = False,
    tile: int | None = None,
    is_deflated: bool = False,
    bits: int | None = None,
    extra: tuple[int, ...] = (),
    orientation: int | None = None,
) -> Path:
    """Write (H, W) or (H, W, C) values.

    Args:
        path: The file.
        values: Integers or floats; for 12 bits uint16, which get packed.
        photometric: What the values mean.
        order: '<' or '>', little or big end first.
        is_planar: One band after another, not one pixel after another.
        tile: Side of square tiles; without it, one strip for each band.
        is_deflated: Compress the strips or tiles.
        bits: For a value, if not those of its type.
        extra: What the bands beyond gray or RGB mean: 0 nothing in
            particular, 1 and 2 transparency.
        orientation: As in EXIF.
    """
    bands = values[..., None] if values.ndim == 2 else values
    height, width, num_bands = bands.shape
    parts = np.split(bands, num_bands, 2) if is_planar else [bands]
    side = (tile, tile) if tile else (height, width)
    blocks = [
        part[top : top + side[0], left : left + side[1]]
        for part in parts
        for top in range(0, height, side[0])
        for left in range(0, width, side[1])
    ]
    chunks = [_pack(_pad(block, side), order, bits) for block in blocks]
    if is_deflated:
        chunks = [zlib.compress(chunk) for chunk in chunks]
    kinds = dict(u=1, i=2, f=3)
    bits = bits or 8 * values.dtype.itemsize
    starts = np.cumsum([8, *map(len, chunks)]).tolist()
    tags: dict[int, tuple[str, list[int]]] = {
        256: ('I', [width]),
        257: ('I', [height]),
        258: ('H', [bits] * num_bands),
        259: ('H', [8 if is_deflated else 1]),
        262: ('H', [photometric]),
        277: ('H', [num_bands]),
        284: ('H', [2 if is_planar else 1]),
        324 if tile else 273: ('I', starts[:-1]),
        325 if tile else 279: ('I', [len(chunk) for chunk in chunks]),
        339: ('H', [kinds[values.dtype.kind]] * num_bands),
    }
    if tile:
        tags |= {322: ('I', [tile]), 323: ('I', [tile])}
    else:
        tags[278] = ('I', [height])
    if extra:
        tags[338] = ('H', list(extra))
    if orientation is not None:
        tags[274] = ('H', [orientation])
    mark = b'II' if order == '<' else b'MM'
    path.write_bytes(
        mark
        + struct.pack(f'{order}HI', 42, starts[-1])
        + b''.join(chunks)
        + _directory(tags, order, starts[-1])
    )
    return path


def _pad(block: np.ndarray, side: tuple[int, int]) -> np.ndarray:
    """Fill a tile at the edge up to its full size."""
    height, width = block.shape[:2]
    missing = [(0, side[0] - height), (0, side[1] - width), (0, 0)]
    return np.pad(block, missing)


def _pack(block: np.ndarray, order: str, bits: int | None) -> bytes:
    """Return the bytes of a strip or tile."""
    if bits == 12:
        # Two values in three bytes, the high bits first, in either order.
        digits = ''.join(f'{value:03x}' for value in block.ravel())
        return bytes.fromhex(digits)
    return block.astype(block.dtype.newbyteorder(order)).tobytes()


def _directory(
    tags: dict[int, tuple[str, list[int]]], order: str, start: int
) -> bytes:
    """Return the directory of tags, which begins at `start`."""
    entries = struct.pack(f'{order}H', len(tags))
    behind = b''
    end = start + 2 + 12 * len(tags) + 4
    for tag in sorted(tags):
        kind, numbers = tags[tag]
        content = struct.pack(f'{order}{len(numbers)}{kind}', *numbers)
        if len(content) > 4:
            position = end + len(behind)
            behind += content
            content = struct.pack(f'{order}I', position)
        entries += struct.pack(
            f'{order}HHI', tag, dict(H=3, I=4)[kind], len(numbers)
        ) + content.ljust(4, b'\0')
    return entries + struct.pack(f'{order}I', 0) + behind
