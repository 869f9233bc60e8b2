"""swav extract, as a user runs it."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmpretrain.models import ResNet
from PIL import Image

from swav_plugin.apis import extract_features, get_model
from swav_plugin.commands import extract as command
from swav_plugin.commands import neighbours
from swav_plugin.commands.pretrained import open_model
from swav_plugin.engine.errors import UsageError
from swav_plugin.inference.features import read_features
from swav_plugin.inference.images import LoadedImages
from swav_plugin.shipped import CONFIGS
from tests.conftest import REPO_ROOT

SMALL = ['--size', '32', '--batch-size', '1']


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'resnet18.pth'
    weights = ResNet(18, stem_channels=8, base_channels=8).state_dict()
    torch.save(weights, path)
    return str(path)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Forty-one images, of which one cannot be read."""
    root = tmp_path_factory.mktemp('images')
    for number in range(40):
        rng = np.random.default_rng(number)
        pixels = rng.integers(256, size=(40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f'{number:02}.png')
    (root / '30x.png').write_bytes(b'not an image')
    return str(root)


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start the command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, '-m', 'swav_plugin', 'extract', *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            'PYTHONPATH': str(REPO_ROOT),
            'OMP_NUM_THREADS': '1',
            'CUDA_VISIBLE_DEVICES': '',
        },
    )


def run(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *arguments: str,
) -> tuple[object, str]:
    """Run the command in this process; return exit code and its last line."""
    monkeypatch.setattr(sys, 'argv', ['swav extract', *arguments])
    code: object = 0
    try:
        command.main()
    except SystemExit as end:
        code = end.code
    return code, capsys.readouterr().err.splitlines()[-1]


def test_pages_name_the_checkpoint_of_a_work_dir(
    checkpoint: str, tmp_path: Path
) -> None:
    """And other processes do not look for it a second time."""
    path = tmp_path / 'epoch_3.pth'
    shutil.copy(checkpoint, path)
    args = argparse.Namespace(model=str(tmp_path), config=None, size=None)
    assert isinstance(open_model(args, 'cpu').backbone, ResNet)
    assert args.model == str(path)


def test_a_run_goes_on_after_a_kill_of_two_processes(
    checkpoint: str,
    folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The second run has one process: the parts are the same."""
    expected = extract_features(
        get_model(checkpoint, 'cpu'),
        folder,
        size=32,
        batch_size=1,
        skip_unreadable=True,
    )
    out = tmp_path / 'features.npy'
    arguments = [checkpoint, folder, str(out), *SMALL]
    killed = start(*arguments, '--gpus', '2')
    parts = tmp_path / '.features.npy.parts'

    def both_have_written() -> bool:
        ranks = {int(path.stem) % 2 for path in parts.glob('*.npy')}
        return ranks == {0, 1}

    while not both_have_written() and killed.poll() is None:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    _, errors = killed.communicate()
    if killed.returncode == 0:  # it was faster
        assert '41 of 41 images' in errors
    else:
        assert killed.returncode == -signal.SIGKILL, errors
        assert out.exists() or both_have_written()
        loaded: list[int] = []
        load = LoadedImages.__getitem__

        def note(self: LoadedImages, index: int) -> Any:
            loaded.append(index)
            return load(self, index)

        monkeypatch.setattr(LoadedImages, '__getitem__', note)
        code, told = run(monkeypatch, capsys, *arguments)
        assert code == 0, told
        assert told == (
            'left out 1 image that cannot be read: '
            f'{tmp_path}/features.unreadable.txt'
        )
        assert len(loaded) < 41
    found = read_features(out)
    assert torch.equal(found.features, expected.features)
    assert found.files == expected.files
    assert sorted(os.listdir(tmp_path)) == [
        'features.npy',
        'features.txt',
        'features.unreadable.txt',
    ]


def test_a_config_gives_the_network(
    folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Such as the digits', whose stages `get_model` cannot tell."""
    config = REPO_ROOT / 'configs/selfsup/swav/swav_demo_digits.py'
    model = get_model(config, 'cpu', pretrained=False)
    weights = tmp_path / 'epoch_1.pth'
    torch.save(model.state_dict(), weights)
    out = tmp_path / 'scores.npy'
    arguments = [str(weights), folder, str(out), '--size', '32']
    arguments += ['--layer', 'scores']
    code, line = run(monkeypatch, capsys, *arguments)
    assert code == 2 and 'checkpoint=' in line
    code, line = run(monkeypatch, capsys, *arguments, '--config', str(config))
    assert code == 0, line
    expected, _ = extract_features(
        model, folder, 'scores', 32, skip_unreadable=True
    )
    assert torch.equal(read_features(out).features, expected)


def test_mistakes_end_in_one_line(
    checkpoint: str,
    folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = str(tmp_path / 'a.npy')
    (tmp_path / 'there.npy').write_bytes(b'mine')
    for arguments, message in (
        (['none.pth', folder, out], 'there is no checkpoint none.pth'),
        ([checkpoint, 'none', out], 'there is no image none'),
        ([checkpoint, folder, 'a.csv'], "ends with '.csv'"),
        ([checkpoint, folder, ''], 'OUT is empty'),
        ([checkpoint, folder, f'{tmp_path}/there.npy'], 'exists; give'),
        (
            [checkpoint, folder, f'{tmp_path}/there.npy/b/a.npy'],
            f'cannot be made: {tmp_path}/there.npy is a file',
        ),
        ([checkpoint, folder, out, '--layer', 'scores'], 'needs a SwAV'),
        ([checkpoint, f'{folder}/30x.png', out], '1 of 1 images cannot be'),
        ([checkpoint, folder, out, '--gpus', '0'], '--gpus 0: give 1 or more'),
        (
            [checkpoint, folder, out, '--workers', '-1'],
            '--workers -1: give 0 or',
        ),
    ):
        code, line = run(monkeypatch, capsys, *arguments)
        assert code == 2
        assert line.startswith('swav extract: error: ')
        assert message in line
    assert (tmp_path / 'there.npy').read_bytes() == b'mine'


def test_a_mistake_in_a_process_is_told_once(
    checkpoint: str,
    folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """All weights are finite, but what they give is not.

    `swav neighbours` computes features as `swav extract` does.
    """
    weights = torch.load(checkpoint)
    weights['bn1.weight'] *= 1e30
    weights['layer4.0.bn1.weight'] *= 1e30
    torch.save(weights, tmp_path / 'broken.pth')
    arguments = [str(tmp_path / 'broken.pth'), folder, str(tmp_path / 'out')]
    monkeypatch.setattr(
        sys, 'argv', ['swav neighbours', *arguments, *SMALL, '--gpus', '2']
    )
    with pytest.raises(SystemExit) as end:
        neighbours.main()
    _, errors = capfd.readouterr()
    assert end.value.code == 2, errors
    assert errors.count('is not finite') == 1
    assert errors.splitlines()[-1].startswith(
        'swav neighbours: error: avgpool'
    )


def test_a_work_dir_brings_its_config(tmp_path: Path) -> None:
    """Of a network that weights alone do not tell."""
    shipped = CONFIGS / 'selfsup/swav/swav_demo_digits.py'
    (tmp_path / 'mine.py').write_text(f'_base_ = {str(shipped)!r}\n')
    built = get_model(str(shipped), 'cpu', pretrained=False)
    content = dict(state_dict=built.state_dict(), meta={})
    torch.save(content, tmp_path / 'epoch_1.pth')
    args = argparse.Namespace(model=str(tmp_path), config=None, size=None)
    model = open_model(args, 'cpu')
    assert args.config == str(tmp_path / 'mine.py')
    assert all(map(torch.equal, model.parameters(), built.parameters()))
    (tmp_path / 'another.py').write_text('')
    args = argparse.Namespace(model=str(tmp_path), config=None, size=None)
    with pytest.raises(UsageError, match='--config CONFIG'):
        open_model(args, 'cpu')
