"""Find a checkpoint by path, URL or its name in the model zoo."""

import difflib
import functools
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import mmengine

from .download import download

# In place of a checkpoint: the network as it is initialized.
RANDOM = 'random'

_INDEX = Path(__file__).parents[1] / '.mim/model-index.yml'


def checkpoint_path(source: str | Path) -> Path:
    """Return the file of a checkpoint, after downloading it if need be.

    Args:
        source: A path, a URL (http, https or file), or the name of a model
            whose weights ``metafile.yml`` lists, such as
            'swav_resnet50_64xb64-mcrop-2-6-coslr-800e_in1k-224-96'.

    Raises:
        FileNotFoundError: There is no such file, nor a model of that name.
        ValueError: The model has no weights, or the hash of those downloaded
            is not the recorded one.
        ConnectionError: The weights could not be downloaded.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    url = urlparse(str(source))
    if url.scheme in ('http', 'https'):
        return download(str(source))
    if url.scheme == 'file':
        return checkpoint_path(url2pathname(url.path))
    models = zoo_models()
    if str(source) not in models:
        close = difflib.get_close_matches(str(source), models)
        named = (
            f'; did you mean {" or ".join(close)}?'
            if close
            else ': no such file, and no model of that name in the zoo'
        )
        raise FileNotFoundError(f'there is no checkpoint {source}{named}')
    model = models[str(source)]
    if not model.get('Weights'):
        others = sorted(name for name in models if models[name].get('Weights'))
        raise ValueError(
            f'nobody has published weights of {source}; train it '
            f'({model["Config"]}), or take one of {", ".join(others)}'
        )
    return download(
        model['Weights'],
        sha256=model.get('Metadata', {}).get('Weights SHA256', ''),
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
    name = re.sub(r'\.(pth\.tar|pth|pt|tar|pkl)$', '', path.name)
    if name.partition('_')[0] in ('epoch', 'iter', 'best'):
        return f'{path.parent.name}/{name}'.lstrip('/')
    return name


@functools.cache
def zoo_models() -> dict[str, dict[str, Any]]:
    """Return the entries of all ``metafile.yml`` files, by name."""
    entries: list[dict] = []
    for name in mmengine.load(_INDEX)['Import']:
        entries += mmengine.load(os.path.join(_INDEX.parent, name))['Models']
    return {entry['Name']: entry for entry in entries}
