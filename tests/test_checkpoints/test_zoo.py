"""Checkpoints by name, URL and path."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from mmengine.runner import CheckpointLoader

from swav_plugin.checkpoints import load_backbone, zoo
from swav_plugin.checkpoints.zoo import checkpoint_path, zoo_models

from .conftest import HEAD, Server

NAME = 'swav_resnet50_64xb64-mcrop-2-6-coslr-800e_in1k-224-96'


@pytest.fixture
def index(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., None]]:
    """Write a zoo of one model with these lines, and one without weights."""

    def write(*lines: str) -> None:
        (tmp_path / 'model-index.yml').write_text('Import: [metafile.yml]\n')
        (tmp_path / 'metafile.yml').write_text(
            '\n'.join(
                [
                    'Models:',
                    '- Name: net_a',
                    '  Config: a.py',
                    *lines,
                    '- Name: net_b',
                    '  Config: b.py',
                ]
            )
        )
        zoo_models.cache_clear()

    monkeypatch.setattr(zoo, '_INDEX', tmp_path / 'model-index.yml')
    yield write
    zoo_models.cache_clear()


def test_names(
    server: Server, index: Callable[..., None], tmp_path: Path
) -> None:
    server.files = {'/a.pth': HEAD + b'weights'}
    right = hashlib.sha256(HEAD + b'weights').hexdigest()
    index(
        f'  Weights: {server.url}/a.pth',
        f'  Metadata: {{Weights SHA256: {right}}}',
    )
    assert checkpoint_path('net_a').read_bytes() == HEAD + b'weights'
    with pytest.raises(
        ValueError,
        match=r'nobody has published weights of '
        r'net_b; train it \(b.py\), or take one of net_a',
    ):
        checkpoint_path('net_b')
    with pytest.raises(
        FileNotFoundError,
        match='no checkpoint net_; did you mean net_[ab] or net_[ab]',
    ):
        checkpoint_path('net_')
    with pytest.raises(FileNotFoundError, match='no such file, and no model'):
        checkpoint_path('x/w.pth')
    index(
        f'  Weights: {server.url}/a.pth',
        f'  Metadata: {{Weights SHA256: {right[::-1]}}}',
    )
    with pytest.raises(ValueError, match='thrown away'):
        checkpoint_path('net_a')


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'a file.pth'
    path.touch()
    assert checkpoint_path(path) == path
    assert checkpoint_path(path.as_uri()) == path
    monkeypatch.setenv('HOME', str(tmp_path))
    assert checkpoint_path('~/a file.pth') == path
    # A file comes before a model of that name.
    monkeypatch.chdir(tmp_path)
    Path(NAME).touch()
    assert checkpoint_path(NAME) == Path(NAME)


def test_backbones_are_filled_from_urls(
    server: Server, tmp_path: Path
) -> None:
    backbone = torch.nn.Linear(2, 1)
    torch.save(
        {
            f'module.{key}': torch.full_like(value, 7)
            for key, value in backbone.state_dict().items()
        },
        tmp_path / 'w.pth',
    )
    server.files = {'/w.pth': (tmp_path / 'w.pth').read_bytes()}
    assert load_backbone(backbone, f'{server.url}/w.pth') == 2
    assert backbone.weight.tolist() == [[7, 7]]
    # mmengine's own loader, as for init_cfg and load_from.
    state = CheckpointLoader.load_checkpoint(f'{server.url}/w.pth')
    assert state['module.bias'].tolist() == [7]
    assert len(server.requests) == 1


def test_the_index_has_upstreams_weights() -> None:
    models = zoo_models()
    assert models[NAME].entry['Weights'] == (
        'https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain'
        '.pth.tar'
    )
