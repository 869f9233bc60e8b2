"""The command line of the suite."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from swav_plugin.commands import suite
from swav_plugin.engine.errors import UsageError
from tests.test_suite.conftest import Fake


def test_mistakes_are_one_line(
    monkeypatch: pytest.MonkeyPatch,
    weights: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:

    def error(*argv: str) -> str:
        monkeypatch.setattr(
            sys,
            'argv',
            ['run_suite.py', *argv, '--out', str(tmp_path / 'out')],
        )
        with pytest.raises(SystemExit) as exit_info:
            suite.main()
        assert exit_info.value.code == 2
        printed = capsys.readouterr().err
        assert printed.count('\n') == 1
        return printed

    monkeypatch.setattr(signal, 'signal', lambda *args: None)
    good = str(weights)
    assert 'there is no checkpoint x.pth' in error('x.pth')
    assert 'takes NAME=PATH' in error(good, '--dataset', 'nette=x')
    assert 'no such folder' in error(good, '--dataset', 'imagenet=nowhere')
    assert 'did you mean' in error(
        good,
        '--root',
        str(data),
        '--only',
        'knn',
        '--cfg-options',
        'knn:test_evaluatr=1',
    )
    assert "can't be split evenly" in error(
        good, '--root', str(data), '--only', 'linear', '--gpus', '3'
    )
    assert '--gpus 64: more than the 36 images' in error(
        good, '--root', str(data), '--only', 'linear', '--gpus', '64'
    )
    assert '--root nowhere: there is no such folder; give the' in error(
        good, '--root', 'nowhere'
    )
    assert 'lacks its data' in error(good, '--root', str(tmp_path))
    assert '--skip leaves none' in error(
        good, '--only', 'knn', '--skip', 'knn'
    )
    torch.save({'fc.weight': torch.zeros(1)}, tmp_path / 'fc.pth')
    assert 'not the weights of a ResNet' in error(str(tmp_path / 'fc.pth'))
    page = tmp_path / 'page.pth'
    page.write_text('<html>')
    assert error(str(page)).startswith(
        f'run_suite.py: error: {page} is not a checkpoint but a web page'
    )
    assert f'{tmp_path} is a folder' in error(str(tmp_path))
    diverged = torch.load(weights)
    key = next(key for key in diverged if key.endswith('conv1.weight'))
    diverged[key][0] = torch.inf
    torch.save(diverged, tmp_path / 'inf.pth')
    assert 'conv1.weight is not finite' in error(str(tmp_path / 'inf.pth'))
    assert not (tmp_path / 'out').exists()
    (tmp_path / 'out').touch()
    assert f'{tmp_path}/out is a file; give a folder' in error(good)


def test_odd_paths(
    run: Callable[..., dict[str, Any]],
    fake: Fake,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    knn = ('--only', 'knn')

    def refused(*argv: str) -> str:
        with pytest.raises(UsageError) as caught:
            run(*knn, *argv)
        return str(caught.value)

    images = str(data / 'imagenet')
    twice = ('--dataset', f'imagenet={images}', f'imagenet={data}')
    assert refused(*twice) == (
        f'--dataset names imagenet twice, {images} and {data}; give one of '
        'them'
    )
    assert 'takes NAME=PATH' in refused('--dataset', 'imagenet=')
    assert f'no such folder, {tmp_path}/a' in refused(
        '--dataset', f'imagenet={tmp_path}/b/../a'
    )
    for name in ('file', 'loop'):
        path = tmp_path / name
        path.touch() if name == 'file' else path.symlink_to(path)
        assert f'no such folder, {path}' in refused(
            '--dataset', f'imagenet={path}'
        )
    assert refused('--root', '') == '--root is empty; give a path'
    assert refused('--out', '') == '--out is empty; give a path'
    for option in ('--root', '--out'):
        assert refused(option, 'caf\udce9') == (
            f"{option} 'caf\\udce9': the name is not UTF-8, as configs are; "
            'rename it, or give a link to it'
        )
    # The shell does not expand ~ behind an equals sign.
    monkeypatch.setenv('HOME', str(data))
    written = run(
        *knn, '--root', '~/nowhere', '--dataset', 'imagenet=~/imagenet'
    )
    assert written['entries'][0]['status'] == 'done'
    assert written['entries'][0]['data'] == 'imagenet'
    # A set that stands in is named, also where its path has no name.
    monkeypatch.chdir(images)
    for path in ('.', '../imagenet/', 'train/..'):
        written = run(*knn, '--dataset', f'imagenet={path}')
        assert written['entries'][0]['data'] == 'imagenet'
        assert written['entries'][0]['is_stand_in']
    report = (tmp_path / 'out/results.md').read_text()
    assert ', on imagenet | ' in report


def test_names_of_any_bytes_in_a_set(
    run: Callable[..., dict[str, Any]], fake: Fake, tmp_path: Path
) -> None:
    for split in ('train', 'val'):
        folder = tmp_path / 'own' / split / os.fsdecode(b'caf\xe9')
        folder.mkdir(parents=True)
        for number in range(12):
            name = os.fsdecode(b'\xff%d.png' % number)
            Image.new('RGB', (32, 32)).save(folder / name)
    written = run('--only', 'knn', '--dataset', f'imagenet={tmp_path}/own')
    assert written['entries'][0]['status'] == 'done'


def test_sets_that_are_not_there(
    run: Callable[..., dict[str, Any]], fake: Fake, tmp_path: Path
) -> None:
    """Each of them is listed with its reason; the others run."""
    pytest.importorskip('mmdet')
    empty = tmp_path / 'empty'
    (empty / 'annotations').mkdir(parents=True)
    written = run(
        '--only',
        'knn',
        'places205',
        'mask_rcnn_fpn_1x',
        'faster_rcnn_fpn_1x',
        '--dataset',
        f'coco={empty}',
        f'places205={empty}',
    )
    found = {
        entry['benchmark']: (entry['status'], entry['reason'])
        for entry in written['entries']
        if entry['status'] != 'done'
    }
    missing = f'there is no {empty}/annotations/instances_train2017.json.'
    assert found['mask_rcnn_fpn_1x'] == ('skipped', missing)
    assert found['faster_rcnn_fpn_1x'] == ('skipped', missing)
    assert found['places205'][0] == 'skipped'
    assert fake.names() == ['knn test.py']
