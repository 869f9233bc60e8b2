"""Download a file once, whole, and only if it is the right one."""

import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.parse import unquote, urlparse
from urllib.request import Request, urlopen

import torch
from filelock import FileLock
from mmengine.logging import print_log

from .atomic import open_atomic

_ATTEMPTS = 5
_TIMEOUT_S = 60
_LOG_EVERY_S = 15
_BLOCK = 2**20


def download(url: str, folder: Path | None = None, sha256: str = '') -> Path:
    """Download a file, unless an earlier call has done so.

    The file appears under its name only when it is complete and its hash,
    where known, is right. If several processes on a machine want it, such as
    the ranks of a run, one downloads it and the others wait. A transfer that
    breaks off is resumed where it stopped, if the server can do that.

    Args:
        url: http or https.
        folder: Where to keep it. By default a folder for this URL in torch's
            cache, so that files of the same name do not collide.
        sha256: The first digits of its hash; by default the 8 at the end of
            names such as `swav-5b3fc7fc.pth`, if there are any.

    Raises:
        ConnectionError: The file could not be downloaded.
        ValueError: Its hash is not the expected one.
    """
    if folder is None:
        token = hashlib.sha256(url.encode()).hexdigest()[:16]
        folder = Path(torch.hub.get_dir(), 'checkpoints', token)
    path = folder / _name(url)
    sha256 = sha256.lower() or _hash_in_name(path.name)
    # No lock if the file is there: the folder may be read-only.
    if _is_there(path, sha256):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f'{path}.lock'):
        if _is_there(path, sha256):
            return path
        with open_atomic(path) as file:
            _fetch(url, file)
            file.flush()
            unfinished = Path(file.name)
            if not _is_there(unfinished, sha256):
                raise ValueError(
                    f'{url} was downloaded and thrown away: its SHA-256 is '
                    f'{hash_file(unfinished)}, expected {sha256}. Somebody '
                    'changed the file, or something on the way did. If you '
                    'trust it, download it yourself and give its path.'
                )
    print_log(f'downloaded {url} to {path}', 'current')
    return path


def _is_there(path: Path, sha256: str) -> bool:
    """Return True for a file that has that hash, if one is given."""
    return path.is_file() and (
        not sha256 or hash_file(path).startswith(sha256)
    )


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _name(url: str) -> str:
    """Return the last part of a URL's path, as a file name.

    >>> _name('https://x.org/swav/w.pth?download=1')
    'w.pth'
    """
    name = unquote(urlparse(url).path).replace('\\', '/').rpartition('/')[2]
    return 'checkpoint' if name in ('', '.', '..') else name


def _hash_in_name(name: str) -> str:
    """Return the hash that torch and OpenMMLab put into file names, or ''.

    >>> _hash_in_name('swav_20220825-5b3fc7fc.pth'), _hash_in_name('a.pth')
    ('5b3fc7fc', '')
    """
    match = re.search(r'-([0-9a-f]{8})\.\w+$', name)
    # Eight digits may also be a date.
    if match is None or re.match(r'20\d\d[01]\d[0-3]\d', match[1]):
        return ''
    return match[1]


def _fetch(url: str, file: IO[bytes]) -> None:
    """Fill an empty file with the contents of a URL."""
    version = ''  # the server's, so that two versions are never mixed
    for _ in range(_ATTEMPTS):
        if not version:
            file.seek(0)
            file.truncate()
        done = file.tell()
        headers = {'User-Agent': 'swav_plugin'}
        if done:
            headers.update({'Range': f'bytes={done}-', 'If-Range': version})
        with _opened(url, headers) as response:
            if done and response.status != 206:  # the whole file again
                file.seek(0)
                file.truncate()
            version = _version(response)
            length = response.headers.get('Content-Length')
            end = None if length is None else file.tell() + int(length)
            reason = _copy(response, file, url, end)
        if reason is None:
            return
    raise ConnectionError(
        f'{url} broke off {_ATTEMPTS} times, the last time after '
        f'{file.tell() / 1e6:.1f} MB ({reason}); try again, or download it '
        'yourself and give its path.'
    )


@contextmanager
def _opened(url: str, headers: dict) -> Iterator[HTTPResponse]:
    """Yield the response of a server that has the file."""
    try:
        response = urlopen(Request(url, headers=headers), timeout=_TIMEOUT_S)
    except HTTPError as error:
        raise ConnectionError(
            f'{url} cannot be downloaded: the server says {error.code} '
            f'{error.reason}; check the address.'
        ) from None
    except OSError as error:
        raise ConnectionError(
            f'{url} cannot be reached: {getattr(error, "reason", error)}. '
            'Without a network, download it on another machine and give its '
            'path.'
        ) from None
    with response:
        yield response


def _version(response: HTTPResponse) -> str:
    """Return what tells this version of a file from others, or ''."""
    tag = response.headers.get('ETag') or ''
    if tag and not tag.startswith('W/'):
        return tag
    return response.headers.get('Last-Modified') or ''


def _copy(
    response: HTTPResponse, file: IO[bytes], url: str, end: int | None
) -> str | None:
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
    return None
