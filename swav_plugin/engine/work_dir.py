"""Keep a work dir for one training: a lock, and no other's checkpoints."""

import os
import socket
from pathlib import Path
from typing import IO

from .errors import UsageError

LOCK = '.lock'

# Open for as long as this process lives: closing a file ends its lock.
_locks: dict[str, IO[str]] = {}


def own_work_dir(
    work_dir: str, is_new: bool, overwrite: bool = False, rank: int = 0
) -> list[str]:
    """Take a work dir for a training, before anything is written into it.

    The lock is the operating system's: it ends with the process, however that
    ends. Rank 0 holds it.

    Args:
        work_dir: The folder; made if it does not exist.
        is_new: The training starts from the beginning.
        overwrite: Remove the checkpoints of an earlier training.
        rank: Rank of this process.

    Returns:
        What the log should say.

    Raises:
        UsageError: Another process trains there, or a new training finds the
            checkpoints of another one.
    """
    folder = Path(work_dir)
    notes = []
    if rank == 0:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _lock(folder)
        except UsageError:
            raise
        except (ImportError, OSError) as error:
            notes.append(
                f'{folder} cannot be locked ({error}): take care that only '
                'one training uses it.'
            )
    saved = sorted(
        [*folder.glob('epoch_*.pth'), *folder.glob('iter_*.pth')],
        key=lambda path: path.stat().st_mtime,
    )
    if not is_new or not saved or (overwrite and rank > 0):
        return notes
    if not overwrite:
        raise UsageError(
            f'{folder} has checkpoints of an earlier training, the newest is '
            f'{saved[-1].name}; go on with it by --resume, train in another '
            '--work-dir, or remove them with --overwrite'
        )
    for path in (*saved, folder / 'last_checkpoint'):
        path.unlink(missing_ok=True)
    notes.append(
        f'--overwrite: removed {len(saved)} checkpoints from {folder}.'
    )
    return notes


def _lock(folder: Path) -> None:
    """Lock a folder, or raise a UsageError that names who holds it."""
    import fcntl  # not on Windows

    path = str((folder / LOCK).resolve())
    if path in _locks:
        return
    file = open(path, 'a+')
    try:
        # POSIX locks: unlike those of flock, data workers do not inherit
        # them, and NFS has them.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        holder = file.read().strip() or 'another process'
        file.close()
        raise UsageError(
            f'{holder} is at work in {folder}; wait for it, stop it, or '
            'choose another folder'
        ) from None
    except OSError:
        file.close()
        raise
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()}')
    file.flush()
    _locks[path] = file
