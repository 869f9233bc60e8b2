"""The command test and dist_test.sh with benchmark configs, as a user."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from swav_plugin.commands import test as command
from swav_plugin.datasets.voc07 import CLASSES
from swav_plugin.models import ResNetWithStem

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs/benchmarks/classification'
SMALL = [
    'model.backbone.depth=18',
    'model.backbone.stem_channels=8',
    'model.backbone.base_channels=8',
    'test_dataloader.num_workers=0',
    'test_cfg.bank_dataloader.num_workers=0',
    'test_dataloader.batch_size=4',
    'test_cfg.bank_dataloader.batch_size=4',
]
BANK = 'test_cfg.bank_dataloader.dataset'


def test_help_is_about_measuring(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        command.parse_args(['--help'])
    text = ' '.join(capsys.readouterr().out.split())
    assert 'to pretrain on' not in text and 'after --pretrained' not in text
    assert 'where the data of the config is: a dataset, with the' in text
    assert 'or work_dirs/<name of the config>)' in text


def environment(**changes: str) -> dict[str, str]:
    """Environment of a command: this checkout, one thread, loopback."""
    return {
        **os.environ,
        'PYTHONPATH': str(ROOT),
        'PYTHON': sys.executable,
        'OMP_NUM_THREADS': '1',
        'GLOO_SOCKET_IFNAME': 'lo',
        **changes,
    }


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


def write_image(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(256, size=(5, 5, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize((64, 48)).save(path)


@pytest.fixture(scope='module')
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options for 14 training and 9 test images of two classes."""
    root = tmp_path_factory.mktemp('images')
    for split, count in (('train', 14), ('val', 9)):
        for number in range(count):
            write_image(
                root / split / 'ab'[number % 2] / f'{number}.jpg',
                number + count,
            )
    return [
        f'{BANK}.data_root={root}/train',
        f'test_dataloader.dataset.data_root={root}/val',
    ]


@pytest.fixture(scope='module')
def voc(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options for VOC lists of 70 training and 45 test images."""
    root = tmp_path_factory.mktemp('VOC2007')
    (root / 'ImageSets/Main').mkdir(parents=True)
    first = 0
    for split, count in (('trainval', 70), ('test', 45)):
        names = [f'{first + i:06}' for i in range(count)]
        for i, name in enumerate(names):
            write_image(root / f'JPEGImages/{name}.jpg', first + i)
        for c, class_name in enumerate(CLASSES):
            lines = [
                f'{name} {1 if i % 20 == c or i % 7 == c else -1}'
                for i, name in enumerate(names)
            ]
            path = root / f'ImageSets/Main/{class_name}_{split}.txt'
            path.write_text('\n'.join(lines))
        first += count
    return [
        f'{BANK}.data_root={root}',
        f'test_dataloader.dataset.data_root={root}',
    ]


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small backbone in upstream's layout."""
    torch.manual_seed(1)
    backbone = ResNetWithStem(18, stem_channels=8, base_channels=8)
    path = tmp_path_factory.mktemp('weights') / 'w.pth.tar'
    torch.save(
        {
            f'module.{key}': value
            for key, value in backbone.state_dict().items()
        },
        path,
    )
    return path


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., dict[str, float]]:
    """Test in this process; return the results."""

    def run_main(
        config: str, checkpoint: Path | str, *options: str
    ) -> dict[str, float]:
        work_dir = tmp_path / str(time.monotonic_ns())
        monkeypatch.setattr(
            sys,
            'argv',
            [
                'test.py',
                str(CONFIGS / config),
                str(checkpoint),
                '--work-dir',
                str(work_dir),
                '--cfg-options',
                *SMALL,
                *options,
                f'test_cfg.cache_dir={tmp_path}/cache',
                f'experiment_name={time.monotonic_ns()}',
            ],
        )
        command.main()
        (file,) = work_dir.glob('*/results.json')
        return {
            entry['name']: entry['value']
            for entry in json.loads(file.read_text())
        }

    return run_main


def test_knn(
    run: Callable[..., dict[str, float]],
    folders: list[str],
    checkpoint: Path,
    tmp_path: Path,
) -> None:
    options = [*folders, 'test_evaluator.0.k=[1, 14]']
    results = run('knn_imagenet.py', checkpoint, *options)
    assert results['avgpool/knn14_top5'] == 100
    assert 0 <= results['avgpool/knn1_top1'] <= 100
    assert run('knn_imagenet.py', checkpoint, *options) == results
    # Two sets of one checkpoint, used again.
    assert len([*(tmp_path / 'cache').iterdir()]) == 2
    run('knn_imagenet.py', 'random', *options)
    assert len([*(tmp_path / 'cache').iterdir()]) == 4


def test_svm(
    run: Callable[..., dict[str, float]], voc: list[str], checkpoint: Path
) -> None:
    results = run(
        'svm_voc07.py', checkpoint, *voc, 'test_evaluator.0.low_shot_k=[1, 2]'
    )
    names = [f'feature{i}/svm_map' for i in range(1, 6)]
    assert list(results)[:7] == names + [
        'svm_map_best_by_test',
        'svm_map_best_by_cv',
    ]
    assert len(results) == 7 + 4
    assert all(0 < value <= 100 for value in results.values())
    assert results['svm_map_best_by_test'] == max(results[n] for n in names)


def test_processes_give_the_results_of_one(
    run: Callable[..., dict[str, float]],
    folders: list[str],
    checkpoint: Path,
    tmp_path: Path,
) -> None:
    options = [*folders, 'test_evaluator.0.k=[1, 3]']
    one = run('knn_imagenet.py', checkpoint, *options)
    done = subprocess.run(
        [
            ROOT / 'tools/dist_test.sh',
            CONFIGS / 'knn_imagenet.py',
            checkpoint,
            '2',
            '--work-dir',
            'two',
            '--cfg-options',
            *SMALL,
            *options,
            'test_cfg.cache_dir=None',
        ],
        cwd=tmp_path,
        env=environment(PORT=free_port()),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    (file,) = tmp_path.glob('two/*/results.json')
    assert {
        entry['name']: entry['value'] for entry in json.loads(file.read_text())
    } == one


def test_mistakes_are_one_line(
    monkeypatch: pytest.MonkeyPatch,
    folders: list[str],
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)

    def error(*argv: str) -> str:
        monkeypatch.setattr(sys, 'argv', ['test.py', *argv])
        with pytest.raises(SystemExit) as exit_info:
            command.main()
        assert exit_info.value.code == 2
        printed = capsys.readouterr().err
        *_, last = printed.splitlines()
        assert last.startswith('test.py: error: ')
        assert 'Traceback' not in printed
        return last

    knn = str(CONFIGS / 'knn_imagenet.py')
    assert 'error: there is no checkpoint w.pth' in error(knn, 'w.pth')
    pretrain = str(ROOT / 'configs/selfsup/swav/swav_demo_images.py')
    assert 'has no test_cfg' in error(pretrain, 'random')
    assert 'did you mean' in error(str(CONFIGS / 'knn_imagenett.py'), 'random')
    small = ['--cfg-options', *SMALL, *folders]
    pointer = tmp_path / 'pointer.pth'
    pointer.write_text('version https://git-lfs.github.com/spec/v1\noid 0')
    assert f'{pointer} is not a checkpoint but a Git LFS pointer' in error(
        knn, str(pointer), *small
    )
    weights = torch.load(checkpoint)
    diverged = {
        key: value.clone() if 'mean' not in key else value * torch.nan
        for key, value in weights.get('state_dict', weights).items()
    }
    torch.save(diverged, tmp_path / 'nan.pth')
    assert 'running_mean is not finite' in error(
        knn, str(tmp_path / 'nan.pth'), *small
    )
    assert 'k must lie between 1 and the bank size' in error(
        knn, str(checkpoint), *small, 'test_evaluator.0.k=[1, 999]'
    )
    assert 'does not fill the ResNet' in error(
        knn, str(checkpoint), *small, 'model.backbone.base_channels=16'
    )


@pytest.mark.parametrize(
    'arguments', [[], ['config.py', 'w.pth'], ['config.py', 'w.pth', 'x']]
)
def test_dist_test_usage(arguments: list[str]) -> None:
    done = subprocess.run(
        [ROOT / 'tools/dist_test.sh', *arguments],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert 'CONFIG CHECKPOINT GPUS' in done.stderr


@pytest.mark.parametrize('name', ['knn_imagenet', 'svm_voc07'])
def test_configs_say_what_they_are(name: str, tmp_path: Path) -> None:
    path = CONFIGS / f'{name}.py'
    head = path.read_text()
    assert f'configs/benchmarks/classification/{name}.py' in head
    assert 'not measured here' in ' '.join(head.split())
    cfg = Config.fromfile(path)
    cfg.dump(tmp_path / 'dumped.py')
    assert Config.fromfile(tmp_path / 'dumped.py').to_dict() == cfg.to_dict()
