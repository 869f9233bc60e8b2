"""SHA-256 of files whose publisher states none, as first seen by this user.

They are kept in one JSON file in torch's cache, by address, so that a file
that changes later is noticed, on the server or on this disk. `zoo` writes it.
"""

import json
from pathlib import Path
from typing import Any

from .cache import cache_folder
from .file_kind import CheckpointError


def note_path() -> Path:
    """Return the JSON file."""
    return cache_folder() / 'swav_plugin_sha256.json'


def first_seen(url: str) -> dict[str, Any]:
    """Return what is known of a file; {} if it was not seen yet.

    That is 'sha256', 'size' and 'date', and 'mirror', the address that it
    came from, unless that was its own.
    """
    return read_notes().get(url, {})


def read_notes() -> dict[str, dict[str, Any]]:
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
