"""The command line of the suite."""

import signal
import sys
from pathlib import Path

import pytest
import torch

from swav_plugin.commands import suite


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
