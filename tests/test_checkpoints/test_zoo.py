"""Checkpoints by name, URL and path."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.hub import get_config
from mmengine.hub import get_model as hub_model
from mmengine.runner import CheckpointLoader

from swav_plugin.checkpoints import catalog, load_backbone, zoo
from swav_plugin.checkpoints.first_seen import note_path
from swav_plugin.checkpoints.zoo import (
    checkpoint_path,
    fetch_model,
    find_model,
    find_models,
    zoo_models,
)
from tests.conftest import REPO_ROOT

from .conftest import HEAD, Server, cached

NAME = 'swav_resnet50_64xb64-mcrop-2-6-coslr-800e_in1k-224-96'


def test_of_a_work_dir_the_newest_good_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r'is a folder; .* latest\.pth'):
        checkpoint_path(tmp_path)
    for number in (1, 2):
        path = tmp_path / f'epoch_{number}.pth'
        torch.save({'weight': torch.ones(9)}, path)
    (tmp_path / 'last_checkpoint').write_text(str(path))
    assert checkpoint_path(tmp_path) == path
    assert f'{tmp_path}: taking its newest checkpoint, {path}' in (
        capsys.readouterr().out
    )
    path.write_bytes(b'')
    assert checkpoint_path(tmp_path) == tmp_path / 'epoch_1.pth'
    assert 'epoch_2.pth is not a checkpoint but an empty file' in (
        capsys.readouterr().out
    )


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

    monkeypatch.setattr(catalog, '_INDEX', tmp_path / 'model-index.yml')
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
        r"net_b; train it \(b.py\), or take one of the 1 that 'swav zoo list'",
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


def record() -> dict:
    return json.loads(note_path().read_text())


def test_what_nobody_has_hashed_is_recorded(
    server: Server,
    index: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At first sight, and compared with every file that comes later."""
    server.files = {'/a.pth': HEAD + b'first'}
    index(f'  Weights: {server.url}/a.pth')
    path = checkpoint_path('net_a')
    expected = dict(
        sha256=hashlib.sha256(HEAD + b'first').hexdigest(),
        size=len(HEAD) + 5,
        date=date.today().isoformat(),
    )
    assert record() == {f'{server.url}/a.pth': expected}
    # Changed here: the server still has the right one.
    path.write_bytes(HEAD + b'other')
    assert checkpoint_path('net_a').read_bytes() == HEAD + b'first'
    # Changed there.
    path.unlink()
    server.files = {'/a.pth': HEAD + b'other'}
    with pytest.raises(ValueError) as error:
        checkpoint_path('net_a')
    for part in ('net_a: ', 'a.pth was', expected['sha256'], str(note_path())):
        assert part in str(error.value)
    assert cached(tmp_path) == []
    assert record() == {f'{server.url}/a.pth': expected}
    # Also by its address, and into another folder.
    for ask in (
        lambda: checkpoint_path(f'{server.url}/a.pth'),
        lambda: CheckpointLoader.load_checkpoint(f'{server.url}/a.pth'),
        lambda: fetch_model(find_model('net_a'), tmp_path),
    ):
        with pytest.raises(ValueError, match='net_a: .*thrown away'):
            ask()
    # As the message says.
    note_path().write_text('{}')
    assert checkpoint_path('net_a').read_bytes() == HEAD + b'other'
    # An address that is not of the zoo may change.
    server.files['/b.pth'] = HEAD
    checkpoint_path(f'{server.url}/b.pth').unlink()
    server.files['/b.pth'] = HEAD + b'new'
    checkpoint_path(f'{server.url}/b.pth')
    assert [*record()] == [f'{server.url}/a.pth']


def test_a_damaged_record_is_not_overwritten(
    server: Server, index: Callable[..., None]
) -> None:
    server.files = {'/a.pth': HEAD}
    index(f'  Weights: {server.url}/a.pth')
    note_path().parent.mkdir(parents=True)
    for text in ('{', '[]', '{"x": 1}', '{"x": {"sha256": 1}}'):
        note_path().write_text(text)
        with pytest.raises(ValueError, match='sha256.json.* damaged; repair'):
            checkpoint_path('net_a')
        assert note_path().read_text() == text


def test_published_hashes_are_not_recorded(
    server: Server, index: Callable[..., None]
) -> None:
    right = hashlib.sha256(HEAD).hexdigest()
    server.files = {f'/a-{right[:8]}.pth': HEAD}
    index(f'  Weights: {server.url}/a-{right[:8]}.pth')
    checkpoint_path('net_a')
    assert not note_path().exists()


def test_a_mirror_replaces_the_host(
    server: Server,
    index: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.files = {'/far/away/sub/a.pth': HEAD, '/other.pth': HEAD}
    url = 'https://example.invalid/sub/a.pth'
    index(f'  Weights: {url}')
    monkeypatch.setenv('SWAV_MIRROR', f'{server.url}/far/away/')
    path = checkpoint_path('net_a')
    assert [*record()] == [url]
    # Other addresses are taken as they are.
    checkpoint_path(f'{server.url}/other.pth')
    # What came from a mirror is the same file without one.
    monkeypatch.delenv('SWAV_MIRROR')
    assert checkpoint_path(url) == checkpoint_path('net_a') == path
    path.unlink()
    for wrong in ('example.org', '/data', 'ftp://example.org', 'https://'):
        monkeypatch.setenv('SWAV_MIRROR', wrong)
        with pytest.raises(ValueError, match='SWAV_MIRROR is .*expected the'):
            checkpoint_path('net_a')


def test_no_network_says_where_to_put_the_file(
    server: Server, index: Callable[..., None]
) -> None:
    index(f'  Weights: {server.url}/a.pth')
    server.close()
    with pytest.raises(ConnectionError) as error:
        checkpoint_path('net_a')
    assert str(error.value).startswith(f'net_a: {server.url}/a.pth cannot be')
    target = re.search(r'put it at (\S+),', str(error.value))
    assert target is not None
    Path(target[1]).write_bytes(HEAD + b'by hand')
    assert checkpoint_path('net_a').read_bytes() == HEAD + b'by hand'
    assert [*record()] == [f'{server.url}/a.pth']


def test_absent_weights_name_the_model(
    server: Server, index: Callable[..., None], tmp_path: Path
) -> None:
    index(f'  Weights: {server.url}/a.pth')
    with pytest.raises(ConnectionError) as error:
        checkpoint_path('net_a')
    said = str(error.value)
    assert said.startswith(f'net_a: {server.url}/a.pth cannot be')
    assert '404 Not Found' in said and 'set SWAV_MIRROR' in said
    assert 'check the address' not in said
    assert cached(tmp_path) == []


def test_weights_to_get_by_hand(
    server: Server, index: Callable[..., None]
) -> None:
    page = 'https://drive.invalid/file/d/1/view'
    index(f'  Metadata: {{By Hand: {page}, File: a.pth}}')
    with pytest.raises(FileNotFoundError) as error:
        checkpoint_path('net_a')
    target = re.search(rf'from {page} .* put it at (\S+)$', str(error.value))
    assert target is not None
    Path(target[1]).parent.mkdir(parents=True)
    Path(target[1]).write_bytes(HEAD)
    assert checkpoint_path('net_a') == Path(target[1])
    Path(target[1]).write_bytes(HEAD + b'other')
    with pytest.raises(ValueError, match=f'net_a: .* again from {page}'):
        checkpoint_path('net_a')


def test_weights_that_cannot_be_loaded_are_not_downloaded(
    server: Server, index: Callable[..., None]
) -> None:
    server.files = {'/a.pth': HEAD}
    index(
        f'  Weights: {server.url}/a.pth',
        '  Metadata: {Not Loadable: it is round}',
    )
    with pytest.raises(ValueError, match='net_a cannot be loaded: it is roun'):
        checkpoint_path('net_a')
    assert server.requests == []
    assert fetch_model(find_model('net_a')).read_bytes() == HEAD


FETCH = """
import sys
from pathlib import Path
from swav_plugin.checkpoints import catalog, zoo
catalog._INDEX = Path(sys.argv[1])
print(zoo.checkpoint_path('net_a'))
"""


def test_two_processes_fetch_one_file(
    server: Server, index: Callable[..., None], tmp_path: Path
) -> None:
    body = HEAD + os.urandom(3_000_000)
    server.files = {'/a.pth': body}
    server.breaks = [1_000_000]
    index(f'  Weights: {server.url}/a.pth')
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', FETCH, tmp_path / 'model-index.yml'],
            env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate()[0].splitlines()[-1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert said[0] == said[1]
    assert Path(said[0]).read_bytes() == body
    assert cached(tmp_path) == ['a.pth']
    assert server.requests == [None, 'bytes=1000000-']
    (entry,) = record().values()
    assert entry['sha256'] == hashlib.sha256(body).hexdigest()


def test_every_published_checkpoint_is_described() -> None:
    models = find_models()
    urls = [model.url for model in models.values()]
    assert len(urls) == len({*urls}) == 53
    for name, model in models.items():
        assert {'Source', 'License', 'Layout', 'Network'} <= {*model.metadata}
        assert model.config is None or model.config.is_file(), name
        assert model.main_result['Metrics']['Top 1 Accuracy'] > 49
        assert model.main_result['Protocol']
        source = model.metadata['Source']
        assert model.main_result['Measured By'].startswith(source)
        assert re.match('https?://', model.url)
        assert ('By Hand' in model.metadata) == ('File' in model.metadata)
    # Two numbers of each source, as its documents have them.
    top1 = {
        name.replace('-coslr', '').replace('_in1k-224-96', ''): (
            model.main_result['Metrics']['Top 1 Accuracy']
        )
        for name, model in models.items()
    }
    for name, value in {
        'swav_resnet50_64xb64-mcrop-2-6-800e': 75.3,
        'swav_resnet50-w5_128xb12-mcrop-2-4-400e': 78.5,
        'swav_resnet50_8xb32-mcrop-2-6-200e': 70.5,
        'swav_resnet50_8xb32-mcrop-2-6-200e_mmselfsup-0.x': 70.47,
        'swav_resnet50_32xb128-mcrop-2-6-100e': 72.4,
        'swav_resnet50_32xb128-mcrop-2-6-800e_passl': 75.3,
        'swav_resnet50_64xb64-mcrop-2-6-100e_vissl': 71.99,
        'swav_resnet50-w4_64xb40-mcrop-2-6-400e_vissl': 77.03,
        'swav_resnet50_2xb128-mcrop-2-6-100e_lightly': 67.2,
        'swav_resnet50_8xb32-mcrop-2-6-200e_easycv': 73.618,
        'swav_resnet50_64xb64-mcrop-2-6-800e_bolts': 74,
        'swav_resnet18_bs256-mcrop-2-1000e_cifar10-32_solo-learn': 89.17,
        'deepcluster-v2_resnet50_64xb64-mcrop-2-6-800e': 75.2,
    }.items():
        assert top1[name] == value


def test_patterns() -> None:
    assert len(find_models('*_vissl')) == 20
    assert [*find_models('SWAV*')] == []
    recipe = 'swav_vit-small-p16_1xb128-mcrop-2-4-coslr-200e_imagenette-224-96'
    assert recipe not in find_models()
    assert recipe in find_models(pretrained=False)


@pytest.mark.filterwarnings('error')
def test_mmengine_finds_the_weights_of_a_config() -> None:
    """Those of the recipe itself, where others have the same config."""
    config = f'selfsup/swav/{NAME}.py'
    found = get_config(f'swav_plugin::{config}', pretrained=True)
    assert found.model_path == find_model(NAME).url
    assert found.model.type == 'SwAV'


def test_mmengine_fills_the_model_of_a_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From upstream's names, which mmengine does not know."""
    config = f'swav_plugin::selfsup/swav/{NAME}.py'
    theirs = hub_model(config)
    weights = {}
    for key, value in theirs.state_dict().items():
        key = key.replace('neck.projection.', 'projection_head.')
        key = key.replace('head.prototypes.0.', 'prototypes.')
        weights['module.' + key.replace('backbone.', '')] = value
    torch.save(weights, tmp_path / 'w.pth.tar')
    monkeypatch.setattr(
        zoo, 'download', lambda *_, **__: tmp_path / 'w.pth.tar'
    )
    monkeypatch.setattr(zoo, '_check_holds', lambda *_: None)
    ours = hub_model(config, pretrained=True)
    for name, value in theirs.state_dict().items():
        assert torch.equal(value, ours.state_dict()[name]), name
    torch.save({'head.fc.weight': torch.zeros(1)}, tmp_path / 'w.pth.tar')
    with pytest.raises(ValueError, match='without those of a backbone'):
        hub_model(config, pretrained=True)


def test_the_index_is_what_mim_reads() -> None:
    """mim takes names for --config, and reads these two keys."""
    index = yaml.safe_load((REPO_ROOT / 'model-index.yml').read_text())
    for name in index['Import']:
        for model in yaml.safe_load((REPO_ROOT / name).read_text())['Models']:
            assert (REPO_ROOT / model['Config']).is_file()
            assert model['In Collection'] == 'SwAV'
            assert 'Weights' not in model or model['Weights'].startswith('htt')
