"""Three hundred files that are no whole images: a run lists each of them."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .recipe import draw_images, losses, train_here, write_config

NUM_MALFORMED, NUM_GOOD = 300, 100
FORMATS = ('JPEG', 'PNG', 'GIF', 'TIFF', 'BMP', 'WEBP', 'PPM', 'JPEG2000')
Rng = np.random.Generator


def whole(kind: str, rng: Rng, **options: bool) -> bytearray:
    """Return a whole file of 48x40 pixels."""
    pixels = rng.integers(256, size=(40, 48, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return bytearray(file.getvalue())


def png(width: int, height: int, data: bytes) -> bytes:
    """Return a PNG of one bit a pixel, with sound checksums."""
    content = b'\x89PNG\r\n\x1a\n'
    header = struct.pack('>IIBBBBB', width, height, 1, 0, 0, 0, 0)
    for name, chunk in ((b'IHDR', header), (b'IDAT', data), (b'IEND', b'')):
        checksum = struct.pack('>I', zlib.crc32(name + chunk))
        content += struct.pack('>I', len(chunk)) + name + chunk + checksum
    return content


def cut_off(rng: Rng) -> Iterator[bytes]:
    """Cut files of all formats at random offsets."""
    for kind in FORMATS:
        content = whole(kind, rng)
        yield bytes(content[: rng.integers(1, int(0.9 * len(content)))])
    content = whole('JPEG', rng, progressive=True)
    yield bytes(content[: rng.integers(1, int(0.9 * len(content)))])


def flipped(rng: Rng) -> Iterator[bytes]:
    """Flip bytes where a checksum or a signature covers them."""
    content = whole('PNG', rng)
    content[rng.integers(50, len(content) - 20)] ^= 1 << rng.integers(8)
    yield bytes(content)
    for kind in FORMATS:
        content = whole(kind, rng)
        content[:4] = bytes(byte ^ 0xFF for byte in content[:4])
        yield bytes(content)


def wrong_sizes(rng: Rng) -> Iterator[bytes]:
    """Say more pixels than there are, or none."""
    factor = int(rng.integers(2, 50))
    for height in (40 * factor, 0):
        content = whole('PNG', rng)
        content[20:24] = struct.pack('>I', height)  # checksum does not fit
        yield bytes(content)
        # Pillow takes rows after the end of the data for black; here the data
        # have no end.
        yield png(48, height, zlib.compress(rng.bytes(7 * 40))[:-8])
        content = whole('BMP', rng)
        content[22:26] = struct.pack('<i', height)
        yield bytes(content)
        yield b'P6 48 %d 255\n' % height + bytes(48 * 40 * 3)
    content = whole('GIF', rng)
    at = content.index(b',', 13 + 3 * 256)  # of the image, after the palette
    content[at + 1 : at + 9] = struct.pack('<4H', 0, 0, 48, 40 * factor)
    yield bytes(content)


def bombs(rng: Rng) -> Iterator[bytes]:
    """Ask for gigabytes of pixels in a few kilobytes."""
    side = int(rng.integers(20_000, 65_000))
    yield png(side, side, zlib.compress(bytes(2**20)))
    content = whole('BMP', rng)
    content[18:26] = struct.pack('<ii', side, side)
    yield bytes(content)
    content = whole('GIF', rng)
    content[6:10] = struct.pack('<HH', side, side)
    yield bytes(content)
    content = whole('JPEG', rng)
    at = content.index(b'\xff\xc0')
    content[at + 5 : at + 9] = struct.pack('>HH', side, side)
    yield bytes(content)
    yield b'P5 %d %d 255\n' % (side, side)


def other_files(rng: Rng) -> Iterator[bytes]:
    """Give what has only the name of an image."""
    yield b''
    yield bytes(rng.integers(1, 5000))
    yield rng.bytes(2000)
    yield b'\xff\xd8\xff\xd9'
    yield b'\xff\xd8' + rng.bytes(500) + b'\xff\xd9'
    yield '<html>404 – not found</html>'.encode()
    yield b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n'
    yield b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n'
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, 'w') as file:
        file.writestr('a.jpg', bytes(whole('JPEG', rng)))
    yield archive.getvalue()


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good images, and malformed ones with 'bad' in their names."""
    folder = draw_images(tmp_path_factory.mktemp('images'), NUM_GOOD)
    rng = np.random.default_rng(0)
    kinds = (cut_off, flipped, wrong_sizes, bombs, other_files)
    endless = (
        (kind.__name__, content)
        for kind in cycle(kinds)
        for content in kind(rng)
    )
    suffixes = cycle(('jpg', 'png', 'gif', 'tif', 'bmp', 'webp'))
    for number, (name, content) in enumerate(islice(endless, NUM_MALFORMED)):
        path = folder / f'bad-{name}-{number}.{next(suffixes)}'
        path.write_bytes(content)
    return folder


MORE = """
train_dataloader.update(batch_size=40, num_workers=1)
train_dataloader['dataset']['max_refetch'] = 1000
model['head']['queue_length'] = 40
views[1].num_views, views[1].sizes = [2, 1], [16, 8]
default_hooks['checkpoint'] = dict(interval=1, interval_iters=None)
"""


@pytest.mark.filterwarnings('ignore::UserWarning:PIL')
def test_each_is_listed(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = MORE + "default_hooks['skipped_images'] = dict(max_share=1.0)\n"
    config = write_config(tmp_path / 'config.py', images, more, epochs=1)
    train_here(monkeypatch, config, tmp_path / 'work')
    lines = (tmp_path / 'work/skipped_images.txt').read_text().splitlines()
    listed = dict(line.split(': ', 1) for line in lines)
    malformed = {str(path) for path in images.glob('bad-*')}
    assert len(malformed) == NUM_MALFORMED
    assert {*listed} == malformed
    assert all(listed.values())  # with a reason each
    assert [*losses(tmp_path / 'work')] == [*range(1, 11)]


@pytest.mark.filterwarnings('ignore::UserWarning:PIL')
def test_more_than_a_share_stop_a_run_at_once(
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = write_config(tmp_path / 'config.py', images, MORE)
    with pytest.raises(SystemExit) as ended:
        train_here(monkeypatch, config, tmp_path / 'work')
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert 'of 400 images cannot be read, more than max_share=0.05' in said
    assert f'All are listed in {tmp_path}/work/skipped_images.txt' in said
    assert not losses(tmp_path / 'work')  # in the first iteration
