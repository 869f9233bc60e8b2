"""The models that the metafiles list, and what is known of their files.

Nothing here needs torch: `swav zoo list` answers at once.
"""

import difflib
import fnmatch
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from swav_plugin.shipped import SHIPPED

from .cache import cache_path, hash_in_name
from .file_kind import CheckpointError

_INDEX = SHIPPED / 'model-index.yml'

# The one in C is ten times as fast.
_Loader: Any = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)


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
    def is_by_hand(self) -> bool:
        """Return whether only a browser can get the file."""
        return bool(self.url) and not self.entry.get('Weights')

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


@functools.cache
def zoo_models() -> dict[str, ZooModel]:
    """Return the models of all metafiles by name, with weights or without."""
    index = _read(_INDEX)
    entries: list[dict] = []
    for name in [*index['Import'], *index.get('Without Config', [])]:
        entries += _read(_INDEX.parent / name)['Models']
    return {entry['Name']: ZooModel(entry['Name'], entry) for entry in entries}


def _read(path: Path) -> dict[str, Any]:
    with open(path, encoding='utf-8') as file:
        return yaml.load(file, _Loader)


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
