"""Keep a work dir for one run: a lock, and no other's checkpoints."""

import errno
import os
import socket
from pathlib import Path
from typing import IO

from swav_plugin.checkpoints.digests import noted_files
from swav_plugin.checkpoints.newest import list_saved

from .errors import UsageError

LOCK = '.lock'
PLAN = 'plan.py'  # what a planned config is called, whatever its images

# Open for as long as this process lives: closing a file ends its lock.
_locks: dict[str, IO[str]] = {}


def own_work_dir(
    work_dir: str, is_new: bool, overwrite: bool = False, rank: int = 0
) -> list[str]:
    """Take a work dir for a training run, before anything is written into it.

    The lock is the operating system's: it ends with the process, however that
    ends. Rank 0 holds it.

    Args:
        work_dir: The folder; made if it does not exist.
        is_new: The run starts from the beginning.
        overwrite: Remove the checkpoints of an earlier run.
        rank: Rank of this process.

    Returns:
        What the log should say.

    Raises:
        UsageError: Another process trains there, or a new run finds the
            checkpoints of another one; or the folder cannot be used.
    """
    folder = Path(work_dir)
    notes = []
    if rank == 0:
        _make(folder)
        try:
            _lock(folder)
        except UsageError:
            raise
        except (ImportError, OSError) as error:
            notes.append(
                f'{folder} cannot be locked ({error}): take care that only '
                'one run uses it.'
            )
    saved = list_saved(folder)
    saved += [
        path
        for path in noted_files(folder)
        if path.name.startswith('best_') and path.is_file()
    ]
    if not is_new or not saved or (overwrite and rank > 0):
        return notes
    if not overwrite:
        raise UsageError(
            f'{folder} has checkpoints of an earlier run, such as '
            f'{saved[0].name}; continue it with --resume, train in another '
            '--work-dir, or remove them with --overwrite'
        )
    for path in (*saved, folder / 'last_checkpoint'):
        path.unlink(missing_ok=True)
    notes.append(
        f'--overwrite: removed {len(saved)} checkpoints from {folder}.'
    )
    return notes


def _make(folder: Path) -> None:
    """Make a folder, and check that a run can write its notes there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UsageError(
            f'--work-dir {folder} is not a folder; give another one'
        ) from None
    except OSError as error:
        raise UsageError(
            f'--work-dir {folder} cannot be made: {error.strerror}; give '
            'another one'
        ) from None
    note = folder / 'last_checkpoint'
    if note.is_dir():
        raise UsageError(
            f'{note} is a folder, but training writes a file of that name; '
            'move it away'
        )


def _lock(folder: Path) -> None:
    """Lock a folder, or raise a UsageError that names who holds it."""
    import fcntl  # not on Windows

    path = str(folder.resolve() / LOCK)
    if path in _locks:
        return
    try:
        # A link is not followed: it would be written where it leads.
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise UsageError(f'{path} is a link; remove it') from None
    file = open(number, 'r+')
    try:
        # POSIX locks: unlike those of flock, data workers do not inherit
        # them, and NFS has them.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        holder = file.read().strip() or 'another process'
        file.close()
        raise UsageError(
            f'{holder} is training in {folder}; wait for it, stop it, or '
            'choose another folder'
        ) from None
    except OSError:
        file.close()
        raise
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()}')
    file.flush()
    _locks[path] = file
