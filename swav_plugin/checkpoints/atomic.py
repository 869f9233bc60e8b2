"""Write files and folders whole or not at all."""

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from mmengine.fileio import LocalBackend, register_backend

# A killed process leaves its unfinished file behind. The next write into that
# folder removes it if nobody has touched it for this long.
_DEAD_AFTER_S = 3600


@contextmanager
def open_atomic(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears complete or not at all.

    The bytes go to a hidden file of a unique name in the same folder, are
    flushed to the disk, and only then take the name. On any error, or if the
    process dies, an older file of that name stays as it was. If two processes
    write the same file, the last one to finish wins.

    Args:
        path: The file to write; its folder is made if there is none.

    Yields:
        A binary file, which can also be read.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = _unfinished(path)
    try:
        with open(unfinished, 'xb+') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write_atomic(path: str | Path, content: bytes | str) -> None:
    """Write a file whole or not at all, as `open_atomic`; text in UTF-8."""
    with open_atomic(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Make a folder that appears complete or not at all.

    Yields:
        A path that does not exist yet: make that folder and fill it.

    Raises:
        FileExistsError: There is such a folder already.
    """
    if folder.exists():
        raise FileExistsError(
            f'{folder} already exists; remove it to make it again.'
        )
    unfinished = _unfinished(folder)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished / folder.name
        (unfinished / folder.name).rename(folder)
    finally:
        shutil.rmtree(unfinished)


def _unfinished(path: Path) -> Path:
    """Return a unique name beside `path`; remove what dead processes left."""
    for left in path.parent.glob('.*.unfinished'):
        with suppress(OSError):  # another process may be removing it, too
            touched = max(
                each.lstat().st_ctime for each in (left, *left.rglob('*'))
            )
            if time.time() - touched < _DEAD_AFTER_S:
                continue
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()
    return path.with_name(f'.{path.name}.{uuid.uuid4().hex[:12]}.unfinished')


@register_backend('atomic')
class AtomicBackend(LocalBackend):
    """Local files that mmengine writes whole or not at all.

    >>> checkpoint = dict(
    ...     type='CheckpointHook', backend_args=dict(backend='atomic'))
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes; see `open_atomic`."""
        write_atomic(filepath, obj)

    def put_text(
        self, obj: str, filepath: str | Path, encoding: str = 'utf-8'
    ) -> None:
        """Write text; see `open_atomic`."""
        write_atomic(filepath, obj.encode(encoding))
