"""Size and SHA-256 of saved checkpoints, in a file beside them.

The checksums inside a checkpoint cover its tensors one by one, and torch's
format of before 1.6 has none. What is noted here covers the whole file.
"""

import json
from pathlib import Path
from typing import Any

from .atomic import write_atomic
from .cache import hash_file

NOTE = 'checkpoint_digests.json'


def note_digest(path: Path) -> None:
    """Note size and digest of a file that was written whole.

    Files that are gone leave the note.
    """
    status = path.stat()
    known = {
        name: entry
        for name, entry in _read_note(path.parent).items()
        if (path.parent / name).is_file()
    }
    known[path.name] = dict(
        size=status.st_size,
        sha256=hash_file(path),
        mtime_ns=status.st_mtime_ns,
    )
    write_atomic(path.parent / NOTE, json.dumps(known, indent=1) + '\n')


def noted_files(folder: Path) -> list[Path]:
    """Return the files of a folder whose digests were noted."""
    return [folder / name for name in _read_note(folder) if _is_name(name)]


def noted_digests(folder: Path) -> set[str]:
    """Return the SHA-256 of those files."""
    entries = _read_note(folder).values()
    return {
        str(entry.get('sha256'))
        for entry in entries
        if isinstance(entry, dict)
    }


def _is_name(name: str) -> bool:
    """Check that it is a name, and nothing that leads elsewhere."""
    return Path(name).name == name


def find_change(path: Path) -> str | None:
    """Say how a file differs from what was noted of it; None if it does not.

    A file that was written since, by whatever else, is not compared.
    """
    entry = _read_note(path.parent).get(path.name)
    if not isinstance(entry, dict):
        return None
    status = path.stat()
    if entry.get('mtime_ns') != status.st_mtime_ns:
        return None
    if entry.get('size') != status.st_size:
        return f'{status.st_size} bytes, {entry.get("size")} were saved'
    if entry.get('sha256') != hash_file(path):
        return 'its SHA-256 is not that of the file that was saved'
    return None


def _read_note(folder: Path) -> dict[str, Any]:
    """Read the note of a folder; a broken one counts as missing."""
    if not (folder / NOTE).is_file():
        return {}
    try:
        note = json.loads((folder / NOTE).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}
