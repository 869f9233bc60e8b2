"""Download a file once, whole, and only if it is the right one."""

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from filelock import FileLock
from mmengine.logging import print_log

from .atomic import open_atomic, write_atomic
from .cache import cache_path, file_name, hash_file, hash_in_name
from .file_kind import CheckpointError, describe_other, find_damage

_ATTEMPTS = 5
_PAUSE_S = 1.0  # before the second attempt, then twice as long each time
_TIMEOUT_S = 60
_LOG_EVERY_S = 15
_BLOCK = 2**20


def download(
    url: str,
    folder: Path | None = None,
    sha256: str = '',
    address: str = '',
) -> Path:
    """Download a checkpoint, unless an earlier call has done so.

    The file appears under its name only when it is complete, its hash, where
    known, is right, and it is not something else, such as a web page. If
    several processes on a machine want it, such as the ranks of a run, one
    downloads it and the others wait. A transfer that breaks off is resumed
    where it stopped, if the server can do that, also by a later process.

    Args:
        url: http or https.
        folder: Where to keep it; a file of that name which is another one is
            not touched. By default a folder for this URL in torch's cache, so
            that files of the same name do not collide.
        sha256: The first digits of its hash; by default the 8 at the end of
            names such as `swav-5b3fc7fc.pth`, if there are any.
        address: Where to get it instead of the URL: that of a mirror.

    Raises:
        Refused: The server does not hand it out.
        ConnectionError: The file could not be downloaded.
        ValueError: Its hash is not the expected one, it is not a checkpoint,
            or the folder is not one or has another file of that name.
    """
    path = cache_path(url) if folder is None else folder / file_name(url)
    sha256 = sha256.lower() or hash_in_name(path.name)
    # No lock if the file is there: the folder may be read-only.
    if _is_there(path, sha256):
        return path
    if folder is not None:
        check_free(path)
    elif path.is_file():
        print_log(
            f'{path} is not the file that was published'
            f'{sha256 and f" (SHA-256 {sha256})"}; downloading it again',
            'current',
            level=logging.WARNING,
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(path, address or url)
    lock = path.with_name(f'.{path.name}.lock')
    with FileLock(lock):
        try:
            if _is_there(path, sha256):
                return path
            part.complete(sha256)
        finally:
            # Who waits for it goes on, and finds the file, or none.
            if not part.path.exists():
                with suppress(OSError):
                    lock.unlink()
    print_log(f'downloaded {part.url} to {path}', 'current')
    return path


def check_free(path: Path) -> None:
    """Check that a file can be written into a folder of the user's.

    Raises:
        CheckpointError: There is one already, or the folder is a file.
    """
    for folder in path.parents:
        if folder.exists() and not folder.is_dir():
            raise CheckpointError(
                f'{path.parent} cannot be a folder, since {folder} is a file; '
                'give a folder'
            )
    if os.path.lexists(path):
        raise CheckpointError(
            f'{path} exists already and is another file; remove it, or give '
            'another folder'
        )


def copy_into(path: Path, folder: Path) -> Path:
    """Copy a file into a folder of the user's, whole or not at all.

    Raises:
        CheckpointError: As `check_free`, unless it is the same file.
    """
    target = folder / path.name
    if target.is_file() and (
        target.samefile(path) or hash_file(target) == hash_file(path)
    ):
        return target
    check_free(target)
    with open(path, 'rb') as source, open_atomic(target) as copy:
        shutil.copyfileobj(source, copy)
    return target


def _is_there(path: Path, sha256: str) -> bool:
    """Return True for a checkpoint that has that hash, if one is given."""
    if not path.is_file():
        return False
    if sha256:
        return hash_file(path).startswith(sha256)
    with open(path, 'rb') as file:
        return describe_other(file) is None


class _Part:
    """The beginning of a file, until it is whole.

    It lies beside the file with a note of its URL, so that the next caller
    can resume it. A lock keeps others away.
    """

    def __init__(self, path: Path, url: str) -> None:
        self.url = url
        self.target = path
        self.path = path.with_name(f'.{path.name}.part')
        self.note = path.with_name(f'.{path.name}.part.json')

    def complete(self, sha256: str) -> None:
        """Fill it, and give it the name of the file if it is the right one."""
        try:
            self._fetch()
        except ConnectionError:
            if not self.path.stat().st_size:
                self.remove()
            raise
        self._check(sha256)
        os.replace(self.path, self.target)
        self.remove()

    def _fetch(self) -> None:
        """Fill it with the contents of the URL."""
        version = self._read_version()
        reason = ''
        with open(self.path, 'ab') as file:
            for attempt in range(_ATTEMPTS):
                if attempt:
                    time.sleep(_PAUSE_S * 2 ** (attempt - 1))
                try:
                    version, reason = self._attempt(file, version)
                except _TryAgain as error:
                    reason = str(error)
                    if not attempt and not error.is_busy:
                        raise ConnectionError(
                            f'{self.url} cannot be reached: {reason}. Without '
                            'a network, download it on another machine and '
                            f'put it at {self.target}, or give its path.'
                        ) from None
                if not reason:
                    file.flush()
                    os.fsync(file.fileno())
                    return
            done = file.tell()
        raise ConnectionError(
            f'{self.url} broke off {_ATTEMPTS} times, the last time after '
            f'{done / 1e6:.1f} MB ({reason}); try again, or download it '
            f'yourself and put it at {self.target}, or give its path.'
        )

    def _attempt(self, file: IO[bytes], version: str) -> tuple[str, str]:
        """Append what is missing, or write it all again.

        Returns:
            The version of what is in the file now, and what went wrong, if
            anything did.
        """
        # Without a version the rest might be that of another file.
        done = file.seek(0, os.SEEK_END) if version else 0
        headers = {'User-Agent': 'swav_plugin'}
        if done:
            headers.update({'Range': f'bytes={done}-', 'If-Range': version})
        with _opened(self.url, headers) as response:
            new = _version(response)
            if not done or not _is_rest(response, done, version):
                if response.status == 206:
                    self._start('', file)
                    return '', 'the server sent another part than asked for'
                self._start(new, file)
                done, version = 0, new
            reason = _copy(response, file, self.url, _end(response, done))
            length = response.headers.get('Content-Length')
            if reason and length == str(file.tell() - done):
                # All that was announced, and too little: not the rest.
                self._start('', file)
                return '', reason
            return version, reason

    def _read_version(self) -> str:
        """Return the server's version of what is in the file, or ''."""
        try:
            note = json.loads(self.note.read_text(encoding='utf-8'))
            return note['version'] if note['url'] == self.url else ''
        except (OSError, ValueError, LookupError, TypeError):
            return ''

    def _start(self, version: str, file: IO[bytes]) -> None:
        """Empty the file for a new version."""
        # In this order, so that the note is never of bytes that came before.
        self.note.unlink(missing_ok=True)
        file.truncate(0)
        if version:
            note = dict(url=self.url, version=version)
            write_atomic(self.note, json.dumps(note))

    def _check(self, sha256: str) -> None:
        """Throw it away if it is not the right file.

        Raises:
            ValueError: It is not.
        """
        with open(self.path, 'rb') as file:
            what = describe_other(file)
            damage = None if what else find_damage(file)
        if what is not None or damage is not None:
            self.remove()
            fault = f'it is not a checkpoint but {what}'
            if damage is not None:
                # A server that does not say how long a file is.
                fault = f'it is cut off or damaged ({damage}); try again'
            raise ValueError(
                f'{self.url} was downloaded and thrown away: {fault}.'
            )
        found = hash_file(self.path)
        if not found.startswith(sha256):
            self.remove()
            raise ValueError(
                f'{self.url} was downloaded and thrown away: its SHA-256 is '
                f'{found}, expected {sha256}. Somebody changed the file, or '
                'something on the way did. If you trust it, download it '
                'yourself and give its path.'
            )

    def remove(self) -> None:
        """Remove the file, if it still has this name, and the note."""
        self.note.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


class Refused(ConnectionError):
    """A server does not hand out a file.

    Args:
        message: What to tell.
        answer: What it says, such as '404 Not Found'.
    """

    def __init__(self, message: str, answer: str) -> None:
        super().__init__(message)
        self.answer = answer


class _TryAgain(Exception):
    """The server cannot be reached, or (is_busy) asks to come back."""

    def __init__(self, reason: str, is_busy: bool) -> None:
        super().__init__(reason)
        self.is_busy = is_busy


@contextmanager
def _opened(url: str, headers: dict) -> Iterator[HTTPResponse]:
    """Yield the response of a server that has the file."""
    try:
        response = urlopen(Request(url, headers=headers), timeout=_TIMEOUT_S)
    except HTTPError as error:
        if error.code == 416:  # it has nothing after what we have
            del headers['Range'], headers['If-Range']
            with _opened(url, headers) as whole:
                yield whole
            return
        if error.code in (408, 429) or error.code >= 500:
            raise _TryAgain(f'{error.code} {error.reason}', True) from None
        answer = f'{error.code} {error.reason}'
        raise Refused(
            f'{url} cannot be downloaded: the server says {answer}; check the '
            'address.',
            answer,
        ) from None
    except (OSError, HTTPException) as error:
        reason = str(getattr(error, 'reason', error)) or type(error).__name__
        raise _TryAgain(reason, False) from None
    with response:
        yield response


def _is_rest(response: HTTPResponse, done: int, version: str) -> bool:
    """Return True if a response continues a file of that version."""
    content_range = response.headers.get('Content-Range') or f'bytes {done}-'
    return (
        response.status == 206
        and content_range.startswith(f'bytes {done}-')
        and _version(response) in (version, '')
    )


def _end(response: HTTPResponse, done: int) -> int | None:
    """Return how long a file should be; None if the server does not say."""
    whole = (response.headers.get('Content-Range') or '').rpartition('/')[2]
    if whole.isdigit():
        return int(whole)
    length = response.headers.get('Content-Length')
    return None if length is None else done + int(length)


def _version(response: HTTPResponse) -> str:
    """Return what tells this version of a file from all others, or ''."""
    headers = response.headers
    tag = headers.get('ETag') or ''
    if tag and not tag.startswith('W/'):
        return tag
    modified, now = headers.get('Last-Modified'), headers.get('Date')
    if not modified or not now:
        return ''
    try:
        age = parsedate_to_datetime(now) - parsedate_to_datetime(modified)
    except (TypeError, ValueError):
        return ''
    # Younger, it may have changed twice within its second (RFC 9110, 8.8.2.2).
    return modified if age >= timedelta(minutes=1) else ''


def _copy(
    response: HTTPResponse, file: IO[bytes], url: str, end: int | None
) -> str:
    """Append a response to a file; return what went wrong, if anything."""
    logged = time.monotonic()
    while True:
        try:
            block = response.read(_BLOCK)
        except (HTTPException, OSError) as error:
            return str(error) or type(error).__name__
        if not block:
            break
        file.write(block)
        if time.monotonic() - logged > _LOG_EVERY_S:
            logged = time.monotonic()
            of = '' if end is None else f' of {end / 1e6:.0f}'
            print_log(f'{url}: {file.tell() / 1e6:.0f}{of} MB', 'current')
    if end is not None and file.tell() != end:
        return f'{file.tell()} of {end} bytes'
    return ''
