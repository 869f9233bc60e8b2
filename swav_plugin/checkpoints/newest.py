"""Find the checkpoint of a work dir that a run goes on from."""

import re
from pathlib import Path

from .file_kind import CheckpointError
from .safe_load import check_bytes

# What `CheckpointHook` saves between the checkpoints that a config asks for.
LATEST = 'latest.pth'


def find_checkpoint(
    work_dir: str, notes: list[str] | None = None
) -> str | None:
    """Return the newest good checkpoint of a work dir, if there is one.

    That is the one which mmengine's ``last_checkpoint`` names, also after
    the folder was moved or copied. If it is gone or damaged, it is the one
    with the next lower number. Without a note it is the ``epoch_*.pth`` or
    ``iter_*.pth`` with the highest, and ``latest.pth`` last. Files elsewhere,
    which the note may name, count only if the folder itself has none.

    Args:
        work_dir: The folder; it need not exist.
        notes: A list that gets a line for each newer file that is damaged.

    Raises:
        CheckpointError: There are checkpoints, and all are damaged.
    """
    reasons = []
    for path in _newest_first(Path(work_dir), notes):
        try:
            check_bytes(path)
        except CheckpointError as error:
            reasons.append(str(error))
            continue
        except OSError as error:
            reasons.append(f'{path} cannot be read: {error.strerror}.')
            continue
        if notes is not None:
            notes += [f'{reason} Going back to {path}.' for reason in reasons]
        return str(path)
    if reasons:
        more = len(reasons) - 1
        raise CheckpointError(
            f'no checkpoint of {work_dir} can be read: {reasons[0]} '
            + f'The same is true of {more} older ones. ' * (more > 0)
            + 'Move them away to start from the beginning.'
        )
    return None


def list_of_run(work_dir: Path) -> list[Path]:
    """List the checkpoints of a run, those that measured best included.

    They are not read: some may be damaged.
    """
    saved = _newest_first(work_dir, None)
    folder = saved[0].parent if saved else work_dir
    return saved + sorted(folder.glob('best_*.pth'))


def _newest_first(folder: Path, notes: list[str] | None) -> list[Path]:
    """Return the checkpoints of a run, newest first."""
    noted = _read_note(folder)
    saved = list_saved(folder, noted)
    if noted is None:
        return saved
    if not saved and noted.parent.name == folder.resolve().name:
        # CheckpointHook(out_dir=...) keeps them elsewhere, in a folder that
        # is called like the work dir.
        saved = list_saved(noted.parent, noted)
    elif not saved and notes is not None:
        notes.append(
            f'{folder / "last_checkpoint"} names {noted}, which belongs to '
            f'another work dir and is ignored; to resume it: --resume {noted}'
        )
    last = number_of(noted)

    def is_later(path: Path) -> tuple[bool, bool]:
        # A higher number is not of the run that wrote the note.
        return path.name != noted.name, number_of(path) > last

    return sorted(saved, key=is_later)


def list_saved(folder: Path, noted: Path | None = None) -> list[Path]:
    """List the files that CheckpointHook wrote into a folder, newest first.

    Only such as it names itself: `epoch_2 (copy).pth` is somebody's own.

    Args:
        folder: It need not exist.
        noted: The last one it wrote, which shows how it names them.
    """
    patterns = [r'epoch_\d+\.pth', r'iter_\d+\.pth', re.escape(LATEST)]
    if noted is not None:
        begin, _, end = noted.name.rpartition(str(number_of(noted)))
        patterns.append(f'{re.escape(begin)}\\d*{re.escape(end)}')
    kinds = [
        {
            path
            for path in folder.glob('*')
            if re.fullmatch(pattern, path.name) and not path.is_dir()
        }
        for pattern in patterns
    ]
    saved = set().union(*kinds)
    if kinds[0] and kinds[1]:  # epochs beside iterations
        return sorted(saved, key=lambda path: -path.lstat().st_mtime)
    # Not by time, which is not kept where a folder is copied.
    return sorted(saved, key=number_of, reverse=True)


def number_of(path: Path) -> int:
    """Return the epoch or iteration in a file name, else 0.

    >>> number_of(Path('work/epoch_12.pth'))
    12
    """
    found = re.findall(r'\d+', path.name)
    return int(found[-1]) if found else 0


def _read_note(folder: Path) -> Path | None:
    """Return the path in mmengine's note; None without a usable one."""
    try:
        text = (folder / 'last_checkpoint').read_text(encoding='utf-8').strip()
        (folder / text).exists()  # raises if no path can be like this
    except (OSError, ValueError):
        return None
    return Path(text) if Path(text).name and text.isprintable() else None
