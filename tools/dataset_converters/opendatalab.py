#!/usr/bin/env python3
"""Unpack what OpenDataLab's command has downloaded to where our configs look.

    opendatalab.py DOWNLOADS ROOT

`mim download swav_plugin --dataset NAME` runs it. All archives below
DOWNLOADS, also those in parts, are unpacked into ROOT, and then removed.
"""

# Only the standard library: mim does not choose the Python that runs this.
import argparse
import itertools
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Joined:
    """The bytes of several files, one after another."""

    def __init__(self, paths: list[Path]) -> None:
        self._blocks = self._read(paths)
        self._rest = b''

    @staticmethod
    def _read(paths: list[Path]) -> Iterator[bytes]:
        for path in paths:
            with open(path, 'rb') as file:
                while block := file.read(2**20):
                    yield block

    def read(self, size: int) -> bytes:
        """Return the next bytes; fewer at the end."""
        while len(self._rest) < size:
            block = next(self._blocks, b'')
            if not block:
                break
            self._rest += block
        found, self._rest = self._rest[:size], self._rest[size:]
        return found


def find_archives(folder: Path) -> dict[str, list[Path]]:
    """Return the files of each archive; a.tar.gz.00, .01, ... are one."""
    files = sorted(path for path in folder.rglob('*') if path.is_file())

    def whole(path: Path) -> str:
        is_part = path.suffix[1:].isdecimal()
        return str(path.with_suffix('') if is_part else path)

    groups = itertools.groupby(files, key=whole)
    return {
        name: [*paths]
        for name, paths in groups
        if name.endswith(('.zip', '.tar', '.tar.gz', '.tgz'))
    }


def unpack(name: str, paths: list[Path], root: Path) -> None:
    """Unpack an archive; nothing can get out of `root`."""
    if name.endswith('.zip'):
        with zipfile.ZipFile(paths[0]) as archive:
            archive.extractall(root)
        return
    joined: Any = Joined(paths)
    with tarfile.open(fileobj=joined, mode='r|*', bufsize=2**20) as tar:
        tar.extraction_filter = getattr(tarfile, 'data_filter', None)
        tar.extractall(root)


def convert(downloads: Path, root: Path) -> None:
    """Unpack all archives, then remove them."""
    archives = find_archives(downloads)
    if not archives:
        raise FileNotFoundError(f'there is no archive below {downloads}')
    root.mkdir(parents=True, exist_ok=True)
    for name, paths in archives.items():
        print(f'unpacking {name} into {root}')
        unpack(name, paths, root)
    inner = root / 'ImageNet-1K'  # train, val and test are in a folder there
    if inner.is_dir():
        for path in inner.iterdir():
            shutil.move(path, root)
        inner.rmdir()
    for path in itertools.chain(*archives.values()):
        path.unlink()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('downloads', metavar='DOWNLOADS', type=Path)
    parser.add_argument('root', metavar='ROOT', type=Path)
    args = parser.parse_args()
    try:
        convert(args.downloads, args.root)
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
