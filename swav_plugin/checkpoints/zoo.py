"""Find a checkpoint by path, URL or its name in the model zoo."""

import json
import logging
import os
import re
from datetime import date
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from filelock import FileLock
from mmengine.logging import print_log

from .atomic import write_atomic
from .cache import hash_file
from .catalog import ZooModel, find_model, find_models, zoo_models
from .describe import describe_weights
from .download import Refused, check_free, copy_into, download
from .file_kind import CheckpointError
from .first_seen import first_seen, note_path, read_notes
from .formats import read_state_dict
from .newest import find_checkpoint

__all__ = [
    'MIRROR',
    'RANDOM',
    'ZooModel',
    'checkpoint_name',
    'checkpoint_path',
    'checkpoint_source',
    'fetch_model',
    'fetch_url',
    'find_model',
    'find_models',
    'zoo_models',
]

# In place of a checkpoint: the network as it is initialized.
RANDOM = 'random'

# In front of the path of each address of the zoo, in place of its host.
MIRROR = 'SWAV_MIRROR'


def checkpoint_path(source: str | Path) -> Path:
    """Return the file of a checkpoint, after downloading it if need be.

    Args:
        source: A path, a URL (http, https or file), or the name of a model
            of the zoo whose weights are published, such as
            'swav_resnet50_64xb64-mcrop-2-6-coslr-800e_in1k-224-96'. Of a
            work dir it is the newest good checkpoint.

    Raises:
        FileNotFoundError: There is no such file, nor a model of that name,
            or its weights have to be downloaded by hand.
        ValueError: It is a folder without checkpoints, the model has no
            weights or some that cannot be loaded, or those downloaded are not
            a checkpoint with the recorded hash.
        ConnectionError: The weights could not be downloaded.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    url = urlparse(str(source))
    if url.scheme in ('http', 'https'):
        return fetch_url(str(source))
    if url.scheme == 'file':
        return checkpoint_path(url2pathname(url.path))
    found = checkpoint_source(str(source))
    if found != str(source):
        return Path(found)
    model = find_model(str(source))
    model.check_loadable()
    return fetch_model(model)


def checkpoint_source(source: str) -> str:
    """Return the newest good checkpoint where a work dir is given.

    Whatever else is given is returned as it is. A line says which file it is,
    and which newer ones are damaged.

    Raises:
        CheckpointError: It is a folder without any, or all are damaged.
    """
    path = Path(source).expanduser()
    if not path.is_dir() or source in zoo_models():
        return source
    notes: list[str] = []
    found = find_checkpoint(str(path), notes)
    if found is None:
        raise CheckpointError(
            f'{path} is a folder; give a file in it, or the work dir of a '
            'run, which has epoch_*.pth, iter_*.pth or latest.pth.'
        )
    for note in [*notes, f'{path}: taking its newest checkpoint, {found}']:
        print_log(note, 'current')
    return found


def fetch_url(url: str, folder: Path | None = None) -> Path:
    """Download a checkpoint; one of the zoo from its mirror, and compared.

    Args, returns and raises are those of `download`.
    """
    for model in find_models().values():
        if model.url == url:
            return fetch_model(model, folder)
    return download(url, folder=folder)


def fetch_model(model: ZooModel, folder: Path | None = None) -> Path:
    """Return the file of a model, after downloading it if need be.

    Args:
        model: The model.
        folder: Where to put it; by default it stays in torch's cache.

    Raises:
        FileNotFoundError: It has to be downloaded by hand, and is not there.
        ValueError: Nobody has published it, it is the wrong file, or another
            one has its name in the folder.
        ConnectionError: It could not be downloaded.
    """
    if not model.url:
        raise ValueError(
            f'nobody has published weights of {model.name}; train it '
            f'({model.entry["Config"]}), or take one of the '
            f"{len(find_models())} that 'swav zoo list' shows"
        )
    if model.is_by_hand:
        path = _got_by_hand(model)
    elif folder is not None and not model.path.is_file():
        if not model.published_sha256 and not first_seen(model.url):
            # Any file of that name might be the user's own.
            check_free(folder / model.path.name)
        path = _download(model, folder)
    else:
        path = _download(model, None)
    if not model.published_sha256 and not first_seen(model.url):
        _check_holds(model, path)
        _note_first_seen(model, path)
    return path if folder is None else copy_into(path, folder)


def _got_by_hand(model: ZooModel) -> Path:
    """Return the file that the user has put into the cache."""
    if not model.path.is_file():
        raise FileNotFoundError(
            f'{model.name} cannot be downloaded by a program: get it from '
            f'{model.url} in a browser and put it at {model.path}'
        )
    expected = model.published_sha256 or first_seen(model.url).get('sha256')
    found = hash_file(model.path) if expected else ''
    if expected and not found.startswith(expected):
        raise CheckpointError(
            f'{model.name}: {model.path} has SHA-256 {found}, expected '
            f'{expected}{_told_by(model)}; get it again from {model.url}'
        )
    return model.path


def _download(model: ZooModel, folder: Path | None) -> Path:
    address = _mirrored(model.url)
    recorded = {} if model.published_sha256 else first_seen(model.url)
    try:
        return download(
            model.url,
            folder=folder,
            sha256=model.published_sha256 or recorded.get('sha256', ''),
            address=address,
        )
    except Refused as error:
        # The address is ours, so the user cannot have mistyped it.
        raise Refused(
            f'{model.name}: {address} cannot be downloaded: the server says '
            f'{error.answer}. The file may have been moved or removed: set '
            f'{MIRROR} to the address of a mirror, put the file at '
            f'{model.path}, or take another model (swav zoo list).',
            error.answer,
        ) from None
    except (ConnectionError, ValueError) as error:
        told = _told_by(model) if isinstance(error, ValueError) else ''
        raise type(error)(f'{model.name}: {error}{told}') from None


def _told_by(model: ZooModel) -> str:
    """Say where an expected SHA-256 that nobody has published is from."""
    recorded = {} if model.published_sha256 else first_seen(model.url)
    if not recorded:
        return ''
    mirror = recorded.get('mirror')
    return (
        f' (as recorded in {note_path()} on {recorded.get("date")}'
        f'{mirror and f" from {mirror}" or ""}; '
        'remove the entry there to accept another file)'
    )


def _mirrored(url: str) -> str:
    """Return the address of a file of the zoo on the mirror, if one is set.

    Raises:
        CheckpointError: What is set is not an address.
    """
    mirror = os.environ.get(MIRROR, '').rstrip('/')
    if not mirror:
        return url
    if not re.match(r'https?://[^/]', mirror):
        raise CheckpointError(
            f'{MIRROR} is {mirror!r}; expected the address of a mirror, such '
            'as https://example.org/weights, which replaces scheme and host'
        )
    return mirror + urlparse(url)._replace(scheme='', netloc='').geturl()


def _check_holds(model: ZooModel, path: Path) -> None:
    """Check a file that nobody has published a hash of, when first seen.

    Raises:
        CheckpointError: It is another network, or lacks a part that the model
            should have.
    """
    network, holds = (
        model.metadata.get(name, '') for name in ('Network', 'Holds')
    )
    if not network or 'Not Loadable' in model.metadata:
        return
    found = describe_weights(read_state_dict(path))
    parts = {'backbone', 'neck', 'prototypes'} & {
        word for part in holds.split(', ') for word in part.split()
    }
    if found.network.partition(' ')[2] != network or parts & {*found.lacks}:
        raise CheckpointError(
            f'{model.name}: {path} is not its file but {found}; expected a '
            f'{network} with {holds}. Remove it, and get it again from '
            f'{model.url}'
        )


def _note_first_seen(model: ZooModel, path: Path) -> None:
    """Record the hash of a file."""
    note, address = note_path(), _mirrored(model.url)
    entry = dict(
        sha256=hash_file(path),
        size=path.stat().st_size,
        date=date.today().isoformat(),
    )
    is_mirrored = address != model.url and not model.is_by_hand
    if is_mirrored:
        entry['mirror'] = address
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f'{note}.lock'):
            known = read_notes()
            known.setdefault(model.url, entry)
            write_atomic(note, json.dumps(known, indent=1) + '\n')
    except OSError as error:  # a cache that others may only read
        print_log(
            f'cannot record the SHA-256 of {path} in {note}: {error}',
            'current',
            level=logging.WARNING,
        )
        return
    print_log(
        f'nobody has published the SHA-256 of {model.url}. The file found now'
        f'{f", from {address}," if is_mirrored else ""} has '
        f'{entry["sha256"]}, which is recorded in {note}; a different one '
        'will be refused.',
        'current',
    )


def checkpoint_name(source: str) -> str:
    """Return a short name that tells a checkpoint from others.

    Args:
        source: As for `checkpoint_path`; it need not exist.

    >>> checkpoint_name('http://x.org/v1.0.pth.tar'), checkpoint_name('random')
    ('v1.0', 'random')
    >>> checkpoint_name('work/x/../epoch_8.pth')
    'work/epoch_8'
    """
    if '://' in source:
        path = Path(urlparse(source).path)
    else:
        path = Path(os.path.abspath(os.path.expanduser(source)))
    name = re.sub(
        r'\.(pth\.tar|pth|pt|tar|pkl|torch|ckpt|pdparams|pd|safetensors)$',
        '',
        path.name,
    )
    if name.partition('_')[0] in ('epoch', 'iter', 'best'):
        return f'{path.parent.name}/{name}'.lstrip('/')
    return name
