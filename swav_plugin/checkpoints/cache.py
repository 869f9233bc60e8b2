"""Where downloaded files are kept, and what tells them apart."""

import hashlib
import os
import re
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

_BLOCK = 2**20


def cache_folder() -> Path:
    """Return the folder in which torch keeps checkpoints."""
    if 'torch' in sys.modules:  # somebody may have called torch.hub.set_dir
        import torch

        return Path(torch.hub.get_dir(), 'checkpoints')
    # As torch finds it, without the seconds that its import takes.
    caches = os.environ.get('XDG_CACHE_HOME', '~/.cache')
    home = os.environ.get('TORCH_HOME', os.path.join(caches, 'torch'))
    return Path(os.path.expanduser(home), 'hub/checkpoints')


def cache_path(url: str, name: str = '') -> Path:
    """Return where `download` keeps a file by default.

    Args:
        url: Where it is from.
        name: What it is called, if not as in the URL.
    """
    token = hashlib.sha256(url.encode()).hexdigest()[:16]
    return cache_folder() / token / (name or file_name(url))


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def file_name(url: str) -> str:
    """Return the last part of a URL's path, as a file name.

    >>> file_name('https://x.org/swav/w.pth?download=1')
    'w.pth'
    """
    name = unquote(urlparse(url).path).replace('\\', '/').rpartition('/')[2]
    return 'checkpoint' if name in ('', '.', '..') else name


def hash_in_name(name: str) -> str:
    """Return the hash that torch and OpenMMLab put into file names, or ''.

    >>> hash_in_name('swav_20220825-5b3fc7fc.pth'), hash_in_name('a.pth')
    ('5b3fc7fc', '')
    """
    match = re.search(r'-([0-9a-f]{8})\.\w+$', name)
    # Eight digits may also be a date.
    if match is None or re.match(r'20\d\d[01]\d[0-3]\d', match[1]):
        return ''
    return match[1]
