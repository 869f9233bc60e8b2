"""Benchmarks that train, by the commands that a user runs."""

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from swav_plugin.models import ResNetWithStem

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs/benchmarks/classification'
MHEAD = 'imagenet/resnet50_mhead_linear-8xb32-steplr-90e_in1k.py'
SEMI = (
    'imagenet/imagenet_1percent/'
    'resnet50_head250_8xb32-steplr2e-2-20e_in1k-1pct.py'
)
# The recipes on a small network and images of 64 px.
SMALL = [
    'model.backbone.depth=18',
    'model.backbone.stem_channels=8',
    'model.backbone.base_channels=8',
    'model.head.num_classes=3',
    'train_dataloader.dataset.pipeline.1.size=64',
    'train_dataloader.batch_size=8',
    'train_dataloader.num_workers=0',
    'train_dataloader.pin_memory=False',
    'train_cfg.max_epochs=2',
    'train_cfg.val_interval=1',
    'default_hooks.checkpoint.interval=1',
    'default_hooks.logger.interval=1',
] + [
    f'{loader}_dataloader.{option}'
    for loader in ('val', 'test')
    for option in (
        'dataset.pipeline.1.scale=72',
        'num_workers=0',
        'dataset.pipeline.2.crop_size=64',
        'batch_size=4',
        'pin_memory=False',
    )
]
PROBES = SMALL + [
    'model.windows=adaptive',
    'model.head.learning_rates=[0.003, 0.01]',
]


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 training and 11 test images of three colors."""
    root = tmp_path_factory.mktemp('images')
    lines = []
    for split, count in (('train', 24), ('val', 11)):
        for number in range(count):
            rng = np.random.default_rng([count, number])
            coarse = rng.integers(128, size=(5, 5, 3), dtype=np.uint8)
            coarse[..., number % 3] += 20
            path = root / f'{split}/class{number % 3}/{number}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(coarse).resize((96, 80)).save(path)
            if split == 'train':
                lines.append(f'class{number % 3}/{number}.png {number % 3}\n')
    (root / 'meta').mkdir()
    (root / 'meta/train_1percent.txt').write_text(''.join(lines))
    return root


@pytest.fixture(scope='module')
def sets(images: Path) -> list[str]:
    """Options that name the images."""
    return [f'train_dataloader.dataset.data_root={images}/train'] + [
        f'{name}_dataloader.dataset.data_root={images}/val'
        for name in ('val', 'test')
    ]


@pytest.fixture(scope='module')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small backbone, with statistics of its own."""
    torch.manual_seed(1)
    backbone = ResNetWithStem(18, stem_channels=8, base_channels=8)
    backbone(torch.randn(8, 3, 64, 64))
    path = tmp_path_factory.mktemp('weights') / 'w.pth'
    torch.save(
        {
            f'backbone.{key}': value
            for key, value in backbone.state_dict().items()
        },
        path,
    )
    return path


def run(tool: str, config: str, work_dir: Path, *argv: str) -> None:
    """Run a tool in this process."""
    spec = importlib.util.spec_from_file_location(
        f'tools_{tool}', ROOT / f'tools/{tool}.py'
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sys,
            'argv',
            [
                f'{tool}.py',
                '--work-dir',
                str(work_dir),
                str(CONFIGS / config),
                *argv,
                f'experiment_name={time.monotonic_ns()}',
            ],
        )
        module.main()


def results(work_dir: Path) -> dict[str, float]:
    """The numbers of the last run, by name."""
    file = max(work_dir.glob('*/results.json'))
    return {
        entry['name']: entry['value'] for entry in json.loads(file.read_text())
    }


def state(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=False)['state_dict']


def is_untouched(checkpoint: Path, weights: Path) -> bool:
    """Return whether a backbone is as pretrained, bit for bit."""
    before = torch.load(weights)
    after = {
        key: value
        for key, value in state(checkpoint).items()
        if key.startswith('backbone.')
    }
    return before.keys() == after.keys() and all(
        torch.equal(before[key].to(after[key]), after[key]) for key in before
    )


@pytest.fixture(scope='module')
def trained(
    tmp_path_factory: pytest.TempPathFactory, sets: list[str], weights: Path
) -> Path:
    """The work dir of two epochs of the multi-head probe."""
    work_dir = tmp_path_factory.mktemp('one')
    run(
        'train',
        MHEAD,
        work_dir,
        '--pretrained',
        str(weights),
        '--cfg-options',
        *PROBES,
        *sets,
    )
    return work_dir


def test_probe(
    trained: Path, weights: Path, sets: list[str], tmp_path: Path
) -> None:
    assert is_untouched(trained / 'epoch_2.pth', weights)
    found = results(trained)
    assert len(found) == 5 * (2 * 2 + 2)
    # The classes are colors, which the first layer sees best.
    assert found['feature1/top1_best_by_val'] > 60
    file = max(trained.glob('*/results.json'))
    result = json.loads(file.read_text())[0]
    protocol = result['protocol']
    assert protocol == (
        'frozen backbone, batch norm and linear on feature1, feature2, '
        'feature3, feature4, feature5 (adaptive windows), learning rate '
        f'0.003, 0.01, --pretrained {weights.stem}, '
        'SGD(momentum=0.9, nesterov=True, weight_decay=0.0001), '
        'MultiStepLR(milestones=[30, 60, 90], gamma=0.1, by_epoch=True), '
        'batch 1x8, after epoch 2 of 2'
    )
    fields = result['fields']
    folders = [fields.pop('train_set'), fields.pop('test_set')]
    assert [option.partition('=')[2] for option in sets[:2]] == folders
    assert fields == dict(
        classifier='frozen backbone, batch norm and linear',
        features=[f'feature{i}' for i in range(1, 6)],
        windows='adaptive',
        learning_rates=[0.003, 0.01],
        pretrained=weights.stem,
        optimizer=dict(
            type='SGD', momentum=0.9, nesterov=True, weight_decay=1e-4
        ),
        schedulers=[
            dict(
                type='MultiStepLR',
                milestones=[30, 60, 90],
                gamma=0.1,
                by_epoch=True,
            )
        ],
        multipliers={},
        num_train_images=24,
        num_test_images=11,
        num_train_unreadable=0,
        num_test_unreadable=0,
        batch_size=8,
        num_processes=1,
        unit='epoch',
        length=2,
        reached=2,
    )
    log = max(trained.glob('*/*.log')).read_text()
    assert re.search(r'\n +lr0.003 +lr0.01\nfeature1 ', log)
    assert protocol in log
    # What the run kept gives the same numbers again.
    run(
        'test',
        MHEAD,
        tmp_path,
        str(trained / 'epoch_2.pth'),
        '--cfg-options',
        *PROBES,
        *sets,
    )
    assert results(tmp_path) == found


def train_processes(
    number: int, cwd: Path, weights: Path, sets: list[str]
) -> Path:
    """Train the probe in float64 in some processes; return the work dir."""
    (cwd / 'in_float64.py').write_text(
        'import torch\ntorch.set_default_dtype(torch.float64)\n'
    )
    (cwd / 'probe.py').write_text(
        f"_base_ = '{CONFIGS / MHEAD}'\n"
        "custom_imports = dict(imports=['in_float64'])\n"
    )
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = str(probe.getsockname()[1])
    done = subprocess.run(
        [
            ROOT / 'tools/dist_train.sh',
            'probe.py',
            str(number),
            '--work-dir',
            str(number),
            '--pretrained',
            weights,
            '--cfg-options',
            *PROBES,
            *sets,
            f'train_dataloader.batch_size={8 // number}',
        ],
        cwd=cwd,
        text=True,
        timeout=240,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={
            **os.environ,
            'PYTHONPATH': f'{cwd}{os.pathsep}{ROOT}',
            'PYTHON': sys.executable,
            'OMP_NUM_THREADS': '1',
            'GLOO_SOCKET_IFNAME': 'lo',
            'PORT': port,
        },
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return cwd / str(number)


def test_processes_give_the_probe_of_one(
    weights: Path, sets: list[str], tmp_path: Path
) -> None:
    """Eleven test images do not divide evenly by two."""
    one, two = [
        train_processes(number, tmp_path, weights, sets) for number in (1, 2)
    ]
    assert is_untouched(two / 'epoch_2.pth', weights)
    assert results(two) == results(one)
    expected, found = [state(each / 'epoch_2.pth') for each in (one, two)]
    for key in expected:
        if expected[key].is_floating_point():
            assert expected[key].dtype == torch.float64
        torch.testing.assert_close(
            found[key], expected[key], rtol=0, atol=1e-9
        )


def test_resumed_probe_equals_uninterrupted(
    trained: Path,
    weights: Path,
    sets: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(trained / 'epoch_1.pth', tmp_path)
    run('train', MHEAD, tmp_path, '--resume', '--cfg-options', *PROBES, *sets)
    # What it began with is known from the checkpoint, and not exchanged.
    file = max(tmp_path.glob('*/results.json'))
    assert f'--pretrained {weights.stem}, ' in file.read_text()
    torch.save({}, tmp_path / 'other.pth')
    with pytest.raises(SystemExit):
        run(
            'train',
            MHEAD,
            tmp_path,
            '--resume',
            '--pretrained',
            str(tmp_path / 'other.pth'),
            '--cfg-options',
            *PROBES,
            *sets,
        )
    assert f'that began with {weights.stem}, not' in capsys.readouterr().err
    one, two = [
        state(folder / 'epoch_2.pth') for folder in (trained, tmp_path)
    ]
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert results(tmp_path) == results(trained)
    first = state(tmp_path / 'epoch_1.pth')
    key = 'head.classifiers.feature5.1.weight'
    assert not torch.equal(first[key], two[key])


def test_mixed_precision(
    weights: Path, sets: list[str], tmp_path: Path
) -> None:
    run(
        'train',
        MHEAD,
        tmp_path,
        '--pretrained',
        str(weights),
        '--amp',
        '--cfg-options',
        *PROBES,
        *sets,
    )
    assert is_untouched(tmp_path / 'epoch_2.pth', weights)
    assert results(tmp_path)['feature1/top1_best_by_val'] > 60


def test_fine_tuning_with_a_list(
    weights: Path, sets: list[str], tmp_path: Path
) -> None:
    options = [*SMALL, *sets, 'model.head.in_channels=64']
    run(
        'train',
        SEMI,
        tmp_path / 'train',
        '--pretrained',
        str(weights),
        '--cfg-options',
        *options,
    )
    assert not is_untouched(tmp_path / 'train/epoch_2.pth', weights)
    found = results(tmp_path / 'train')
    assert [*found] == ['accuracy/top1', 'accuracy/top5']
    run(
        'test',
        SEMI,
        tmp_path / 'test',
        str(tmp_path / 'train/epoch_2.pth'),
        '--cfg-options',
        *options,
    )
    assert results(tmp_path / 'test') == found
    file = max((tmp_path / 'test').glob('*/results.json'))
    result = json.loads(file.read_text())[0]
    fields = result['fields']
    assert fields['multipliers'] == dict(head=dict(lr_mult=250))
    assert (fields['length'], fields['reached']) == (2, None)
    assert (fields['num_processes'], fields['num_train_images']) == (None,) * 2
    assert fields['num_test_images'] == 11
    assert fields['num_train_unreadable'] is None
    assert result['protocol'] == (
        'all weights trained, SGD(lr=0.02, momentum=0.9, weight_decay=0.0), '
        'MultiStepLR(milestones=[12, 16], gamma=0.2, by_epoch=True), head '
        '(lr_mult=250), batch 8 on each GPU, 2 epochs by the config'
    )


@pytest.fixture
def spoiled(images: Path, tmp_path: Path) -> list[str]:
    """Options that name images, two of which cannot be read."""
    root = tmp_path / 'spoiled'
    shutil.copytree(images, root)
    for name in ('train/class1/1', 'val/class0/3'):
        path = root / f'{name}.png'
        path.write_bytes(path.read_bytes()[:200])
    return [f'train_dataloader.dataset.data_root={root}/train'] + [
        f'{name}_dataloader.dataset.data_root={root}/val'
        for name in ('val', 'test')
    ]


def test_unreadable_images_are_left_out_and_counted(
    weights: Path, spoiled: list[str], tmp_path: Path
) -> None:
    skip = [
        f'{name}_dataloader.dataset.skip_unreadable=True'
        for name in ('train', 'val', 'test')
    ]
    given = ['--cfg-options', *PROBES, *spoiled, *skip]
    run('train', MHEAD, tmp_path, '--pretrained', str(weights), *given)
    result = json.loads(next(tmp_path.glob('*/results.json')).read_text())[0]
    fields = result['fields']
    assert (fields['num_train_images'], fields['num_test_images']) == (23, 10)
    assert fields['num_train_unreadable'] == 1
    assert fields['num_test_unreadable'] == 1
    assert result['protocol'].endswith(
        'after epoch 2 of 2, unreadable images left out: 1 training and 1 test'
    )
    assert not (tmp_path / 'skipped_images.txt').exists()


@pytest.fixture
def error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., str]:
    """Train where that must end in one line; return that line."""

    def run_wrong(*argv: str) -> str:
        with pytest.raises(SystemExit) as exit_info:
            run('train', MHEAD, tmp_path, *argv)
        assert exit_info.value.code == 2
        last = capsys.readouterr().err.strip().rsplit('\n', 1)[-1]
        assert last.startswith('train.py: error: ')
        assert not [*tmp_path.glob('*.pth')]
        return last

    return run_wrong


def test_unreadable_images_are_named_before_training(
    weights: Path,
    spoiled: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        run(
            'train',
            MHEAD,
            tmp_path,
            '--pretrained',
            str(weights),
            '--cfg-options',
            *PROBES,
            *spoiled,
        )
    assert exit_info.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()[-4:]
    root = tmp_path / 'spoiled'
    assert lines[0] == 'train.py: error: images that cannot be read:'
    assert lines[1].startswith(f'train: {root}/train/class1/1.png: ')
    assert lines[2].startswith(f'val: {root}/val/class0/3.png: ')
    assert lines[3].startswith('2 of 35 images cannot be read; mend or')
    assert not [*tmp_path.glob('*.pth')]


def test_wrong_weights(
    error: Callable[..., str], weights: Path, sets: list[str], images: Path
) -> None:
    """Before images are looked for: there are none in 'nowhere'."""
    nowhere = [*PROBES, 'train_dataloader.dataset.data_root=nowhere']
    assert 'add --pretrained CHECKPOINT, or --pretrained random' in error(
        '--cfg-options', *nowhere
    )
    assert 'does not fill the ResNetWithStem: ' in error(
        '--pretrained',
        str(weights),
        '--cfg-options',
        *nowhere,
        'model.backbone.base_channels=16',
    )


def test_a_backbone_alone_can_not_be_tested(
    weights: Path,
    sets: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        run(
            'test',
            MHEAD,
            tmp_path,
            str(weights),
            '--cfg-options',
            *PROBES,
            *sets,
        )
    assert (
        'does not fill the LinearProbe: 30 tensors are not in the file '
        '(head.classifiers'
    ) in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(
            'test',
            SEMI,
            tmp_path,
            str(weights),
            '--cfg-options',
            *SMALL,
            *sets,
            'model.head.in_channels=64',
        )
    message = capsys.readouterr().err.splitlines()[-1]
    assert (
        'does not fill this ImageClassifier: give a checkpoint of this model'
        in message
    )
    assert len(message) < 900


def test_load_from_has_to_fill_the_backbone(
    error: Callable[..., str], sets: list[str], tmp_path: Path
) -> None:
    upstream = tmp_path / 'upstream.pth.tar'
    torch.save({'module.conv1.weight': torch.zeros(64, 3, 7, 7)}, upstream)
    assert 'have a different shape, such as backbone.bn1.bias' in error(
        '--cfg-options', *PROBES, *sets, f'load_from={upstream}'
    )


def test_wrong_classes(
    error: Callable[..., str],
    weights: Path,
    sets: list[str],
    images: Path,
    tmp_path: Path,
) -> None:
    command = ['--pretrained', str(weights), '--cfg-options', *PROBES, *sets]
    assert 'have 3 classes, but the head has 4; set model.head.num' in error(
        *command, 'model.head.num_classes=4'
    )
    assert 'labels of train_dataloader go up to 2, but the head has 2' in (
        error(*command, 'model.head.num_classes=2')
    )
    other = tmp_path / 'other'
    shutil.copytree(images / 'val', other)
    (other / 'class1').rename(other / 'class9')
    assert (
        'have different classes; in one of them only: class1, class9'
        in error(*command, f'val_dataloader.dataset.data_root={other}')
    )
    assert 'images of train_dataloader have no labels' in error(
        *command, f'train_dataloader.dataset.data_root={images}/train/class0'
    )
    for line, message in (
        ('class0/0.png', 'train_dataloader have no labels'),
        ('class0/0.png 7', 'train_dataloader go up to 7'),
    ):
        (tmp_path / 'list.txt').write_text(f'{line}\n')
        assert message in error(
            *command,
            f'train_dataloader.dataset.ann_file={tmp_path}/list.txt',
            'train_dataloader.batch_size=1',
        )
