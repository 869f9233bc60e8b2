"""Find a checkpoint by path, URL or its name in the model zoo."""

import difflib
import fnmatch
import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import mmengine

from .download import cache_path, download, hash_file, hash_in_name
from .file_kind import CheckpointError
from .first_seen import first_seen, note_first_seen, note_path

# In place of a checkpoint: the network as it is initialized.
RANDOM = 'random'

# In front of the path of each address of the zoo, in place of its host.
MIRROR = 'SWAV_MIRROR'

_PACKAGE = Path(__file__).parents[1]
_INDEX = _PACKAGE / '.mim/model-index.yml'
if not (_INDEX.parent / 'configs').is_dir():
    # A checkout without symbolic links, as torch.hub unpacks it.
    _INDEX = _PACKAGE.parent / 'model-index.yml'


@dataclass(frozen=True)
class ZooModel:
    """A model of the zoo, as its ``metafile.yml`` describes it.

    Attributes:
        name: Its name.
        entry: What the metafile says: 'Weights', 'Config', 'Results', ...
    """

    name: str
    entry: dict[str, Any]

    @property
    def metadata(self) -> dict[str, Any]:
        """'Source', 'License', 'Layout', 'Network', 'Holds', 'Note', ..."""
        return self.entry.get('Metadata') or {}

    @property
    def url(self) -> str:
        """The address of the weights, or of the page to get them by hand.

        '' for a recipe whose weights nobody has published.
        """
        return self.entry.get('Weights') or self.metadata.get('By Hand', '')

    @property
    def config(self) -> Path | None:
        """The config file that these weights fit, if there is one here."""
        config = self.entry.get('Config')
        return None if config is None else _INDEX.parent / config

    @property
    def path(self) -> Path:
        """Where the file is in the cache, or would be."""
        return cache_path(self.url, self.metadata.get('File', ''))

    @property
    def published_sha256(self) -> str:
        """The first digits of its SHA-256 as published, or ''."""
        published = self.metadata.get('Weights SHA256', '')
        return published.lower() or hash_in_name(self.path.name)

    @property
    def main_result(self) -> dict[str, Any]:
        """What its source measured first; {} without any result."""
        results = self.entry.get('Results') or [{}]
        source = self.metadata.get('Source', '')
        for result in results:
            if result.get('Measured By', '').startswith(source):
                return result
        return results[0]

    def check_loadable(self) -> None:
        """Check that swav_plugin can use the weights.

        Raises:
            CheckpointError: It cannot; says why.
        """
        reason = self.metadata.get('Not Loadable')
        if reason:
            raise CheckpointError(
                f'{self.name} cannot be loaded: {reason}. To fetch the file '
                f'alone: swav zoo download {self.name}'
            )

    def fetch(self, folder: Path | None = None) -> Path:
        """Return the file, after downloading it if need be.

        Args:
            folder: Where to keep it; by default in torch's cache.

        Raises:
            FileNotFoundError: It has to be got by hand, and is not there.
            ValueError: Nobody has published it, or it is the wrong file.
            ConnectionError: It could not be downloaded.
        """
        if not self.url:
            others = ', '.join(sorted(find_models()))
            raise ValueError(
                f'nobody has published weights of {self.name}; train it '
                f'({self.entry["Config"]}), or take one of {others}'
            )
        if not self.entry.get('Weights'):
            path = self._got_by_hand()
        else:
            path = self._download(folder)
        if not self.published_sha256:
            note_first_seen(self.url, path)
        return path

    def _got_by_hand(self) -> Path:
        """Return the file that the user has put into the cache."""
        if not self.path.is_file():
            raise FileNotFoundError(
                f'{self.name} cannot be downloaded by a program: get it from '
                f'{self.url} in a browser and put it at {self.path}'
            )
        expected = self.published_sha256 or first_seen(self.url).get('sha256')
        found = hash_file(self.path) if expected else ''
        if expected and not found.startswith(expected):
            raise CheckpointError(
                f'{self.name}: {self.path} has SHA-256 {found}, expected '
                f'{expected}{self._told_by()}; get it again from {self.url}'
            )
        return self.path

    def _download(self, folder: Path | None) -> Path:
        recorded = {} if self.published_sha256 else first_seen(self.url)
        try:
            return download(
                self.url,
                folder=folder,
                sha256=self.published_sha256 or recorded.get('sha256', ''),
                address=_mirrored(self.url),
            )
        except (ConnectionError, ValueError) as error:
            told = self._told_by() if isinstance(error, ValueError) else ''
            raise type(error)(f'{self.name}: {error}{told}') from None

    def _told_by(self) -> str:
        """Say where an expected SHA-256 that nobody has published is from."""
        recorded = {} if self.published_sha256 else first_seen(self.url)
        if not recorded:
            return ''
        return (
            f' (as recorded in {note_path()} on {recorded.get("date")}; '
            'remove the entry there to accept another file)'
        )


def checkpoint_path(source: str | Path) -> Path:
    """Return the file of a checkpoint, after downloading it if need be.

    Args:
        source: A path, a URL (http, https or file), or the name of a model
            of the zoo whose weights are published, such as
            'swav_resnet50_64xb64-mcrop-2-6-coslr-800e_in1k-224-96'.

    Raises:
        FileNotFoundError: There is no such file, nor a model of that name,
            or its weights have to be got by hand.
        ValueError: It is a folder, the model has no weights or some that
            cannot be loaded, or those downloaded are not a checkpoint with
            the recorded hash.
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
    if str(source) not in zoo_models() and path.is_dir():
        raise CheckpointError(f'{path} is a folder; give a file in it.')
    model = find_model(str(source))
    model.check_loadable()
    return model.fetch()


def fetch_url(url: str, folder: Path | None = None) -> Path:
    """Download a checkpoint; one of the zoo from its mirror, and compared.

    Args, returns and raises are those of `download`.
    """
    for model in find_models().values():
        if model.url == url:
            return model.fetch(folder)
    return download(url, folder=folder)


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


@functools.cache
def zoo_models() -> dict[str, ZooModel]:
    """Return the models of all metafiles by name, with weights or without."""
    index = mmengine.load(_INDEX)
    entries: list[dict] = []
    for name in [*index['Import'], *index.get('Without Config', [])]:
        entries += mmengine.load(_INDEX.parent / name)['Models']
    return {entry['Name']: ZooModel(entry['Name'], entry) for entry in entries}


def find_models(
    pattern: str = '*', pretrained: bool = True
) -> dict[str, ZooModel]:
    """Return the models whose names match a pattern, by name.

    Args:
        pattern: As for files: * is anything, ? one character.
        pretrained: Only those whose weights somebody has published.
    """
    models = zoo_models()
    return {
        name: models[name]
        for name in fnmatch.filter(models, pattern)
        if models[name].url or not pretrained
    }


def find_model(name: str) -> ZooModel:
    """Return the model of a name.

    Raises:
        FileNotFoundError: There is none; says which one was probably meant.
    """
    models = zoo_models()
    if name in models:
        return models[name]
    close = difflib.get_close_matches(name, models)
    named = (
        f'; did you mean {" or ".join(close)}?'
        if close
        else ': no such file, and no model of that name in the zoo'
    )
    raise FileNotFoundError(f'there is no checkpoint {name}{named}')
