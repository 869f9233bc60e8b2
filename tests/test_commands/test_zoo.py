"""`swav zoo`: what it prints, and its mistakes in one line."""

import hashlib
import re
from pathlib import Path

import pytest
import torch
from mmpretrain.models import ResNet

from swav_plugin.checkpoints.first_seen import first_seen
from swav_plugin.checkpoints.zoo import find_model, find_models
from swav_plugin.commands import zoo

NAME = 'swav_resnet50_64xb64-mcrop-2-6-coslr-800e_in1k-224-96'
BY_HAND = 'swav_resnet50_32xb128-mcrop-2-6-coslr-100e_in1k-224-96'


def run(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *argv: str,
) -> str:
    """Run the command; return what it printed."""
    monkeypatch.setattr('sys.argv', ['swav zoo', *argv])
    zoo.main()
    return capsys.readouterr().out


def error(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *argv: str,
) -> str:
    """Run the command; return its one line of error."""
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, capsys, *argv)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix('swav zoo: error: ')


def weights(path: Path) -> Path:
    torch.manual_seed(0)
    net = ResNet(18, base_channels=8, stem_channels=8)
    torch.save(net.state_dict(), path)
    return path


def test_columns_are_aligned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = run(monkeypatch, capsys, 'list').split('\n\n')[0].splitlines()
    names = [line.split()[0] for line in lines[1:]]
    assert names == [*find_models()]
    for head in ('top-1', 'measured by', 'license', 'file'):
        column = lines[0].index(head)
        assert all(
            line[column - 2 : column] == '  ' and line[column] != ' '
            for line in lines
        )
    one = run(monkeypatch, capsys, 'list', '*_easycv').splitlines()[1]
    assert one.split() == [
        'swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96_easycv',
        *('73.618', 'alibaba/EasyCV', 'Apache-2.0', 'download'),
    ]
    rest = run(monkeypatch, capsys, 'list')
    for name, end in (
        ('swav_resnet18_bs256-mcrop-2-1000e_cifar10-32_solo-learn', 'by hand'),
        ('seer_regnet-10b_ig1b_vissl', 'not loadable'),
    ):
        (line,) = (each for each in rest.splitlines() if name in each)
        assert line.endswith(f'  {end}')
    assert re.search(r' 89\.17 \(CIFAR-10\) +vturrisi/solo-learn ', rest)


def test_info_before_and_after(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    model = find_model(BY_HAND)
    monkeypatch.setitem(model.metadata, 'Holds', 'backbone')
    before = run(monkeypatch, capsys, 'info', BY_HAND)
    assert 'https://drive.google.com/file/d/1budFSoQ' in before
    assert f'no; it would be {model.path}\n' in before
    assert 'not published; the first download records it' in before
    assert 'Top 1 Accuracy 72.4 on ImageNet-1k (linear classifier' in before
    line = error(monkeypatch, capsys, 'download', BY_HAND)
    assert f'in a browser and put it at {model.path}' in line

    model.path.parent.mkdir(parents=True)
    content = weights(model.path).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    line = error(monkeypatch, capsys, 'download', BY_HAND)
    assert (
        f'{model.path} is not its file but a torchvision or timm checkpoint '
        'of a ResNet-18-w0.125, without neck, prototypes or queue; expected '
        'a ResNet-50 with backbone'
    ) in line
    assert first_seen(model.url) == {}
    monkeypatch.setitem(model.metadata, 'Network', 'ResNet-18-w0.125')
    said = run(monkeypatch, capsys, 'download', BY_HAND)
    # Behind what the log says, which may go elsewhere.
    assert f'\n{said}'.endswith(f'\n{model.path}\nSHA-256 {digest}\n')
    after = run(monkeypatch, capsys, 'info', BY_HAND)
    size = f'{len(content) / 1e6:.1f} MB'
    assert f'{model.path} ({size})' in after
    assert f'{digest} (not published; recorded on ' in after
    listed = run(monkeypatch, capsys, 'list', BY_HAND)
    assert f'by hand, {size} in the cache\n' in listed

    # From the cache into a folder, and what a file is.
    said = run(
        monkeypatch, capsys, 'download', BY_HAND, '--out', f'{tmp_path}/out'
    )
    copy = tmp_path / 'out' / model.path.name
    assert said == f'{copy}\nSHA-256 {digest}\n'
    assert copy.read_bytes() == content
    # Not over another file.
    other = tmp_path / 'other' / model.path.name
    other.parent.mkdir()
    other.write_text('mine')
    line = error(
        monkeypatch, capsys, 'download', BY_HAND, '--out', str(other.parent)
    )
    assert line.endswith('another folder') and other.read_text() == 'mine'
    line = error(monkeypatch, capsys, 'download', BY_HAND, '--out', str(other))
    assert line.endswith(f'{other} is a file; give a folder')
    said = run(monkeypatch, capsys, 'info', str(copy))
    assert digest in said and BY_HAND in said
    assert 'a ResNet-18-w0.125, without neck, prototypes or queue' in said


def test_published_hashes_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = run(monkeypatch, capsys, 'info', NAME)
    assert 'not published' in said
    name = 'swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96'
    assert '5b3fc7fc (published)' in run(monkeypatch, capsys, 'info', name)


def test_mistakes(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    assert 'is called x*; ' in error(monkeypatch, capsys, 'list', 'x*')
    near = NAME.replace('mcrop', 'mcorp')
    for action in ('info', 'download'):
        assert 'did you mean' in error(monkeypatch, capsys, action, near)
    recipe = 'swav_resnet50_1xb256-mcrop-2-6-coslr-200e_in1k-224-96'
    for out in ((), ('--out', str(tmp_path))):
        line = error(monkeypatch, capsys, 'download', recipe, *out)
        assert line.startswith(f'nobody has published weights of {recipe}')
    (tmp_path / 'w.pth').write_text('<html>')
    line = error(monkeypatch, capsys, 'info', str(tmp_path / 'w.pth'))
    assert 'a web page' in line
    assert 'is a folder; give a file in it' in error(
        monkeypatch, capsys, 'info', str(tmp_path)
    )


def test_info_of_addresses(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """Of the zoo's, what the zoo knows; of any other, what the file is."""
    name = 'swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96'
    by_name = run(monkeypatch, capsys, 'info', name)
    assert run(monkeypatch, capsys, 'info', find_model(name).url) == by_name
    url = weights(tmp_path / 'a b.pth').as_uri()
    said = run(monkeypatch, capsys, 'info', url)
    assert 'a ResNet-18-w0.125' in said
    assert 'Images:   not said; taken as in SwAV on ImageNet' in said
