"""SHA-256 of files whose publisher states none, as first seen by this user.

They are kept in one JSON file in torch's cache, by address, so that a file
that changes later is noticed, on the server or on this disk.
"""

import json
import logging
from datetime import date
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from mmengine.logging import print_log

from .atomic import write_atomic
from .download import hash_file
from .file_kind import CheckpointError


def note_path() -> Path:
    """Return the JSON file."""
    return Path(torch.hub.get_dir(), 'checkpoints/swav_plugin_sha256.json')


def first_seen(url: str) -> dict[str, Any]:
    """Return 'sha256', 'size' and 'date' of a file; {} if it is unknown."""
    return _read().get(url, {})


def note_first_seen(url: str, path: Path) -> None:
    """Record a file, unless an earlier one of that address is recorded."""
    if first_seen(url):
        return
    note = note_path()
    entry = dict(
        sha256=hash_file(path),
        size=path.stat().st_size,
        date=date.today().isoformat(),
    )
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f'{note}.lock'):
            known = _read()
            known.setdefault(url, entry)
            write_atomic(note, json.dumps(known, indent=1) + '\n')
    except OSError as error:  # a cache that others may only read
        print_log(
            f'cannot record the SHA-256 of {path} in {note}: {error}',
            'current',
            level=logging.WARNING,
        )
        return
    print_log(
        f'nobody has published the SHA-256 of {url}. The file found now has '
        f'{entry["sha256"]}, which is recorded in {note}; a different one '
        'will be refused.',
        'current',
    )


def _read() -> dict[str, dict[str, Any]]:
    """Return all records, by address.

    Raises:
        CheckpointError: The file was damaged.
    """
    note = note_path()
    if not note.is_file():
        return {}
    try:
        known = json.loads(note.read_text(encoding='utf-8'))
        if all(isinstance(entry['sha256'], str) for entry in known.values()):
            return known
    except (ValueError, LookupError, TypeError, AttributeError):
        pass
    raise CheckpointError(
        f'{note}, the record of downloads, is damaged; repair it, or remove '
        'it to record the files anew.'
    )
