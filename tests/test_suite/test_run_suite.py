"""tools/benchmarks/run_suite.py: what it runs, skips, keeps and writes."""

import base64
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
from PIL import Image

from swav_plugin.datasets.voc07 import CLASSES
from swav_plugin.models import ResNetWithStem

ROOT = Path(__file__).resolve().parents[2]
SUITE = ROOT / 'tools/benchmarks/run_suite.py'


@pytest.fixture(scope='module')
def suite() -> ModuleType:
    """The command as a module."""
    spec = importlib.util.spec_from_file_location('run_suite', SUITE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_images(root: Path, classes: str, count: int, side: int = 64) -> None:
    """Coarse noise, in folders of one letter each."""
    for split in ('train', 'val'):
        for number in range(count):
            rng = np.random.default_rng([number, split == 'val'])
            coarse = rng.integers(256, size=(5, 5, 3), dtype=np.uint8)
            folder = root / split / classes[number % len(classes)]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(coarse).resize((side, side)).save(
                folder / f'{number}.png'
            )


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 + 36 images of three classes, and VOC lists without a test split."""
    root = tmp_path_factory.mktemp('data')
    write_images(root / 'imagenet', 'abc', 36)
    voc = root / 'VOCdevkit/VOC2007'
    (voc / 'ImageSets/Main').mkdir(parents=True)
    (voc / 'JPEGImages').mkdir()
    for split in ('train', 'val'):
        names = [f'{split}{i}' for i in range(84)]
        for name in names:
            image = Image.new('RGB', (32, 32), (len(name), 9, 99))
            image.save(voc / f'JPEGImages/{name}.jpg')
        for c, class_name in enumerate(CLASSES):
            lines = [
                f'{name} {1 if i % 20 == c else -1}'
                for i, name in enumerate(names)
            ]
            (voc / f'ImageSets/Main/{class_name}_{split}.txt').write_text(
                '\n'.join(lines)
            )
    return root


@pytest.fixture(scope='module')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow ResNet-18 in upstream's layout."""
    torch.manual_seed(1)
    backbone = ResNetWithStem(18, stem_channels=8, base_channels=8)
    path = tmp_path_factory.mktemp('work') / 'epoch_3.pth'
    torch.save(
        {
            f'module.{key}': value
            for key, value in backbone.state_dict().items()
        },
        path,
    )
    return path


class Fake:
    """Stands in for the tools: notes commands, writes a number for each."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.silent: list[str] = []  # tools that write no results
        self.failing: list[str] = []  # parts of folders of runs that fail

    def __call__(self, command: list[str], log: Path) -> str | None:
        self.commands.append(command)
        tool = next(word for word in command if word.endswith('.py'))
        if any(part in str(log.parent) for part in self.failing):
            return 'exit status 1'
        if Path(tool).name not in self.silent:
            folder = log.parent / str(len(self.commands))
            folder.mkdir()
            Path(folder, 'results.json').write_text(
                json.dumps(
                    [
                        dict(
                            name='avgpool/knn10_top1',
                            value=float(len(self.commands)),
                            protocol='fake',
                        )
                    ]
                )
            )
            (folder / 'pictures').mkdir()
            (folder / 'pictures/1.jpg').touch()
        return None

    def names(self) -> list[str]:
        """Benchmark and tool of each command."""
        return [
            f'{Path(word).parent.name.rpartition("-")[0]} '
            f'{Path(command[i - 1]).name}'
            for command in self.commands
            for i, word in enumerate(command)
            if word.endswith('config.py')
        ]


@pytest.fixture
def fake(suite: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Replace what starts the tools."""
    fake = Fake()
    monkeypatch.setattr(suite, 'execute', fake)
    return fake


@pytest.fixture
def run(
    suite: ModuleType, data: Path, weights: Path, tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    """Run the suite; give what it wrote."""

    def run_suite(*arguments: str, failed: int = 0) -> dict[str, Any]:
        args = suite.parse_args(
            [
                str(weights),
                '--root',
                str(data),
                '--out',
                str(tmp_path / 'out'),
                *arguments,
            ]
        )
        assert suite.run_suite(args) == failed
        return json.loads((tmp_path / 'out/results.json').read_text())

    return run_suite


def statuses(written: dict[str, Any]) -> dict[str, str]:
    return {
        f'{entry["benchmark"]} {entry["subject"]}': entry['status']
        for entry in written['entries']
    }


def test_runs_what_has_data(
    run: Callable[..., dict[str, Any]],
    fake: Fake,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    written = run('--with-random', '--skip', 'linear')
    assert (
        fake.names()
        == ['knn test.py'] * 2
        + ['svm test.py'] * 2
        + ['linear_mhead train.py'] * 2
    )
    assert [str(weights) in command for command in fake.commands] == [
        True,
        False,
    ] * 3
    assert all('random' in command for command in fake.commands[1::2])
    found = statuses(written)
    assert found['knn pretrained'] == found['svm random'] == 'done'
    assert found['places205 pretrained'] == 'skipped'
    assert 'linear pretrained' not in found
    reasons = {
        entry['benchmark']: entry.get('reason') for entry in written['entries']
    }
    assert 'there is no folder' in reasons['places205']
    assert 'train_1percent.txt; write it' in reasons['semisup_1percent']
    assert 'places205: skipped, there is no' in capsys.readouterr().out
    assert written['subjects']['pretrained'] == (
        f'{weights.parent.name}/epoch_3'
    )


def test_only_what_is_not_done_runs_again(
    run: Callable[..., dict[str, Any]], fake: Fake, tmp_path: Path
) -> None:
    fake.failing = ['linear-']
    first = run('--only', 'knn', 'linear', failed=1)
    assert statuses(first) == {
        'knn pretrained': 'done',
        'linear pretrained': 'failed',
    }
    assert '## Not measured' in (tmp_path / 'out/results.md').read_text()
    fake.failing = []
    again = run('--only', 'knn', 'linear')
    assert fake.names() == [
        'knn test.py',
        'linear train.py',
        'linear train.py',
    ]
    assert again['entries'][0] == first['entries'][0]
    assert again['entries'][1]['status'] == 'done'
    # Training goes on from its own checkpoints.
    assert '--resume' in fake.commands[2]
    # Anything that numbers depend on makes another run; workers do not.
    run('--only', 'knn', '--cfg-options', 'test_dataloader.num_workers=0')
    assert len(fake.commands) == 3
    run('--only', 'knn', '--image-size', '64')
    run('--only', 'knn', '--cfg-options', 'knn:test_evaluator.0.k=[3]')
    assert len(fake.commands) == 5
    for picture in (tmp_path / 'out').glob('*/*/*/pictures/*'):
        picture.unlink()  # the report does without
    run('--only', 'knn', '--cfg-options', 'svm:test_evaluator.0.seed=1')
    assert len(fake.commands) == 5
    run('--only', 'knn')
    assert len(fake.commands) == 5


def test_other_weights_make_another_run(
    run: Callable[..., dict[str, Any]], fake: Fake, weights: Path
) -> None:
    run('--only', 'knn', '--with-random')
    state = torch.load(weights)
    before = weights.read_bytes()
    state['module.conv1.weight'] += 1
    try:
        torch.save(state, weights)
        run('--only', 'knn', '--with-random')
    finally:
        weights.write_bytes(before)
    assert len(fake.commands) == 3  # the random network is the same


def test_other_images_make_another_run(
    run: Callable[..., dict[str, Any]], fake: Fake, data: Path
) -> None:
    image = data / 'imagenet/val/a/0.png'
    before = image.read_bytes()
    run('--only', 'knn', 'svm')
    voc = data / 'VOCdevkit/VOC2007/ImageSets/Main/cow_val.txt'
    labels = voc.read_text()
    try:
        Image.new('RGB', (64, 64)).save(image)
        run('--only', 'knn', 'svm')
    finally:
        image.write_bytes(before)
    assert fake.names() == ['knn test.py', 'svm test.py', 'knn test.py']
    try:
        marks = [line.split() for line in labels.splitlines()]
        voc.write_text(
            '\n'.join(  # as many bytes
                f'{name} {mark}'
                for (name, _), (_, mark) in zip(marks, marks[1:] + marks[:1])
            )
        )
        run('--only', 'knn', 'svm')
    finally:
        voc.write_text(labels)
    assert fake.names()[3:] == ['svm test.py']
    run('--only', 'knn', 'svm')
    assert len(fake.commands) == 4


def test_training_that_ended_without_numbers(
    run: Callable[..., dict[str, Any]],
    suite: ModuleType,
    fake: Fake,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped after the last epoch, before the numbers were written."""
    fake.silent = ['train.py']
    monkeypatch.setattr(suite, 'find_checkpoint', lambda folder: 'last.pth')
    written = run('--only', 'linear')
    assert fake.names() == ['linear train.py', 'linear test.py']
    assert 'last.pth' in fake.commands[1]
    assert written['entries'][0]['results'][0]['value'] == 2


def read_config(written: dict[str, Any], tmp_path: Path) -> Config:
    (entry,) = written['entries']
    return Config.fromfile(tmp_path / 'out' / entry['folder'] / 'config.py')


def test_config_of_knn(
    run: Callable[..., dict[str, Any]], fake: Fake, data: Path, tmp_path: Path
) -> None:
    written = run('--only', 'knn', '--image-size', '112')
    cfg = read_config(written, tmp_path)
    assert cfg.model.backbone.depth == 18
    assert cfg.model.backbone.stem_channels == 8
    assert cfg.test_dataloader.dataset.data_root == f'{data}/imagenet/val'
    bank = cfg.test_cfg.bank_dataloader.dataset
    assert bank.data_root == f'{data}/imagenet/train'
    for dataset in (cfg.test_dataloader.dataset, bank):
        assert [
            node.get('scale', node.get('crop_size'))
            for node in dataset.pipeline[1:3]
        ] == [128, 112]
    # 36 images have no 100 neighbours.
    assert cfg.test_evaluator[0].k == [10, 20]
    (entry,) = written['entries']
    assert entry['notes'] == ['too few images for k = 100, 200']
    assert entry['is_stand_in']


def test_config_of_svm(
    run: Callable[..., dict[str, Any]], fake: Fake, data: Path, tmp_path: Path
) -> None:
    written = run('--only', 'svm')
    cfg = read_config(written, tmp_path)
    assert cfg.test_cfg.windows == 'mmselfsup'
    assert cfg.test_cfg.bank_dataloader.dataset.split == 'train'
    assert cfg.test_dataloader.dataset.split == 'val'
    assert cfg.test_dataloader.dataset.data_root == (
        f'{data}/VOCdevkit/VOC2007'
    )
    # Each class has 4 or 5 positive images of 84, and k needs 20 k in all.
    assert cfg.test_evaluator[0].low_shot_k == [1, 2, 4]
    assert written['entries'][0]['notes'] == [
        'train in place of trainval, val of test',
        'too few images for k = 8, 16, 32, 64, 96',
    ]


def test_config_of_linear(
    run: Callable[..., dict[str, Any]], fake: Fake, data: Path, tmp_path: Path
) -> None:
    written = run(
        '--only',
        'linear_mhead',
        '--epochs',
        '9',
        '--image-size',
        '64',
        '--gpus',
        '2',
    )
    cfg = read_config(written, tmp_path)
    assert cfg.model.head.num_classes == 3
    assert cfg.model.windows == 'adaptive'
    assert cfg.train_cfg.max_epochs == 9
    assert cfg.train_cfg.val_interval == 1
    assert cfg.param_scheduler[0].milestones == [3, 6, 9]
    assert cfg.default_hooks.checkpoint.interval == 1
    # 256 images in all, but there are only 36.
    assert cfg.train_dataloader.batch_size == 18
    crop = cfg.train_dataloader.dataset.pipeline[1]
    assert (crop.type, crop.scale) == ('RandomResizedCrop', 64)
    assert written['entries'][0]['notes'] == [
        '3 classes',
        'too few images for batches of 256',
    ]
    (command,) = fake.commands
    assert command[1:5] == [
        '-m',
        'torch.distributed.run',
        '--standalone',
        '--nproc_per_node=2',
    ]
    assert command[-2:] == ['--launcher', 'pytorch']


@pytest.mark.parametrize('name', ['semisup_10percent', 'cifar10'])
def test_config_of_fine_tuning(
    suite: ModuleType, name: str, tmp_path: Path
) -> None:
    """What the page's data gives: nothing is left out, batches are whole."""
    args = suite.parse_args(['w', '--out', 'out', '--gpus', '4'])
    (tmp_path / 'val/a').mkdir(parents=True)
    data = suite.Data(tmp_path, None, False)
    cfg, notes = suite.make_config(
        args, name, dict(depth=18, stem_channels=64, base_channels=64), data
    )
    assert notes == []
    assert cfg.model.head.in_channels == 512
    assert cfg.train_dataloader.batch_size == (
        256 if name == 'cifar10' else 64
    )
    root = cfg.train_dataloader.dataset.data_root
    assert root == str(tmp_path) + '/train' * (name != 'cifar10')


def test_iterations_and_epochs_are_apart(suite: ModuleType) -> None:
    text = dict(
        train_cfg=dict(max_iters=2000, val_interval=200),
        param_scheduler=[
            dict(type='LinearLR', by_epoch=False, begin=0, end=100),
            dict(
                type='MultiStepLR',
                by_epoch=False,
                end=2000,
                milestones=[1500, 1800],
            ),
        ],
        default_hooks=dict(checkpoint=dict(by_epoch=False, interval=200)),
    )
    cfg = Config(text)
    suite.set_length(cfg, 'epochs', 3)
    assert cfg.to_dict() == text
    suite.set_length(cfg, 'iters', 100)
    assert cfg.train_cfg == dict(max_iters=100, val_interval=10)
    assert [step.end for step in cfg.param_scheduler] == [5, 100]
    assert cfg.param_scheduler[1].milestones == [75, 90]
    assert cfg.default_hooks.checkpoint.interval == 10
    # A warm-up that would be shorter than a step still ends.
    suite.set_length(cfg, 'iters', 10)
    warm_up = PARAM_SCHEDULERS.build(
        dict(
            cfg.param_scheduler[0],
            start_factor=0.01,
            optimizer=torch.optim.SGD([torch.zeros(1)], lr=1.0),
        )
    )
    assert warm_up.get_last_value() == [0.01]
    warm_up.optimizer.step()
    warm_up.step()
    assert warm_up.get_last_value() == [1.0]


@pytest.mark.parametrize(
    'name, library',
    [('mask_rcnn_fpn_1x', 'mmdet'), ('fcn_cityscapes', 'mmseg')],
)
def test_missing_library(
    run: Callable[..., dict[str, Any]],
    fake: Fake,
    name: str,
    library: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        'find_spec',
        lambda wanted: None if wanted == library else find_spec(wanted),
    )
    _, entry = run('--only', 'knn', name)['entries']
    assert entry['status'] == 'skipped'
    assert entry['reason'].startswith(
        f"{library} is not installed: pip install -e '.[onedl-downstream]'"
    )


@pytest.mark.parametrize('depth', [18, 50])
def test_config_of_detection(
    suite: ModuleType, test_data: Path, tmp_path: Path, depth: int
) -> None:
    pytest.importorskip('mmdet')
    network = dict(depth=depth, stem_channels=8, base_channels=8)
    stages = [8, 16, 32, 64] if depth == 18 else [32, 64, 128, 256]
    args = suite.parse_args(
        [
            'w',
            '--out',
            'out',
            '--iters',
            '24',
            '--epochs',
            '3',
            '--image-size',
            '64',
            '--gpus',
            '2',
        ]
    )
    root = test_data / 'voc2012_mini/VOCdevkit'
    data = suite.look_at('voc0712', root)
    assert data[:3] == (root, None, True)
    cfg, notes = suite.make_config(args, 'faster_rcnn_c4', network, data)
    assert notes == [
        'trained on VOC2012/ImageSets/Main/train.txt, tested on '
        'VOC2012/ImageSets/Main/val.txt'
    ]
    (train,) = cfg.train_dataloader.dataset.datasets
    assert (train.data_root, train.ann_file, train.data_prefix) == (
        str(root),
        'VOC2012/ImageSets/Main/train.txt',
        dict(sub_data_root='VOC2012/'),
    )
    assert cfg.test_dataloader.dataset.ann_file == (
        'VOC2012/ImageSets/Main/val.txt'
    )
    assert cfg.train_cfg.max_iters == 24
    assert cfg.train_dataloader.batch_size == 8
    assert cfg.model.roi_head.shared_head.depth == depth
    assert cfg.model.roi_head.bbox_head.in_channels == stages[3]
    assert cfg.model.rpn_head.in_channels == stages[2]
    # The image size is left alone.
    assert cfg.test_dataloader.dataset.pipeline[1].scale == (1333, 800)

    root = test_data / 'coco_mini'
    cfg, notes = suite.make_config(
        args, 'mask_rcnn_fpn_1x', network, suite.look_at('coco', root)
    )
    assert notes == ['80 classes', 'warm-up of 2 iterations']
    assert cfg.val_evaluator.ann_file == (
        f'{root}/annotations/instances_val2017.json'
    )
    assert cfg.train_dataloader.dataset.data_root == str(root)
    assert cfg.model.neck.in_channels == stages
    assert cfg.train_cfg.max_epochs == 3
    # 80 images are 15 iterations.
    assert [step.end for step in cfg.param_scheduler] == [2, 3]
    cfg, notes = suite.make_config(
        args, 'mask_rcnn_fpn_1x', network, suite.Data(root, None)
    )
    assert notes == []
    assert [step.end for step in cfg.param_scheduler] == [125, 3]
    cfg, _ = suite.make_config(
        args, 'mask_rcnn_c4_1x', network, suite.look_at('coco', root)
    )
    assert cfg.model.roi_head.mask_head.in_channels == stages[3]


def test_coco_of_other_classes(suite: ModuleType, tmp_path: Path) -> None:
    names = dict(train=['nut', 'bolt'], val=['nut', 'bolt'])
    (tmp_path / 'annotations').mkdir()

    def stand_in() -> tuple[Config, list[str]]:
        for split, categories in names.items():
            (tmp_path / f'annotations/instances_{split}2017.json').write_text(
                json.dumps(
                    dict(
                        images=[],
                        annotations=[],
                        categories=[
                            dict(id=i, name=name)
                            for i, name in enumerate(categories)
                        ],
                    )
                )
            )
        loader = dict(dataset=dict())
        cfg = Config(
            dict(
                model=dict(
                    roi_head=dict(
                        bbox_head=dict(num_classes=80),
                        mask_head=dict(num_classes=80),
                    )
                ),
                train_dataloader=loader,
                val_dataloader=loader,
                test_dataloader=loader,
            )
        )
        return cfg, suite.stand_in_for_coco(cfg, tmp_path)

    cfg, notes = stand_in()
    assert notes == ['2 classes']
    assert cfg.model.roi_head.mask_head.num_classes == 2
    assert list(cfg.test_dataloader.dataset.metainfo.classes) == [
        'nut',
        'bolt',
    ]
    names['val'].reverse()
    with pytest.raises(suite.UsageError, match='in the same order'):
        stand_in()


def test_flat_val_is_read_by_its_list(
    suite: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / 'val').mkdir()
    (tmp_path / 'val/1.jpg').touch()
    args = suite.parse_args(['w', '--out', 'out'])
    cfg, _ = suite.make_config(
        args,
        'knn',
        dict(depth=50, base_channels=64),
        suite.Data(tmp_path, None, False),
    )
    assert cfg.test_dataloader.dataset.ann_file == '../meta/val.txt'
    assert cfg.test_cfg.bank_dataloader.dataset.ann_file == ''


def test_mistakes_are_one_line(
    suite: ModuleType,
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
    assert 'can not be split evenly' in error(
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
    assert not (tmp_path / 'out').exists()


def environment() -> dict[str, str]:
    return {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}


def load_tool(name: str) -> ModuleType:
    """A command of tools/ as a module."""
    spec = importlib.util.spec_from_file_location(
        name, ROOT / f'tools/{name}.py'
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_numbers_of_real_runs(
    run: Callable[..., dict[str, Any]],
    suite: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The tools themselves, in this process; numbers reach all files."""

    def execute(command: list[str], log: Path) -> None:
        assert command[0] == sys.executable
        monkeypatch.setattr(
            sys,
            'argv',
            [
                *command[1:],
                '--cfg-options',
                f'experiment_name={time.monotonic_ns()}',
            ],
        )
        load_tool(Path(command[1]).stem).main()

    monkeypatch.setattr(suite, 'execute', execute)
    small = [
        '--image-size',
        '32',
        '--epochs',
        '1',
        '--cfg-options',
        'svm:test_evaluator.0.low_shot_k=[1]',
        'test_dataloader.num_workers=0',
    ]
    small += [
        f'{name}:{loader}.num_workers=0'
        for name, loader in (
            ('knn', 'test_cfg.bank_dataloader'),
            ('svm', 'test_cfg.bank_dataloader'),
            ('linear', 'train_dataloader'),
            ('linear', 'val_dataloader'),
            ('linear_mhead', 'train_dataloader'),
            ('linear_mhead', 'val_dataloader'),
        )
    ]
    written = run('--only', 'knn', 'svm', 'linear', 'linear_mhead', *small)
    names = {
        entry['benchmark']: [result['name'] for result in entry['results']]
        for entry in written['entries']
    }
    assert names == dict(
        knn=[f'avgpool/knn{k}_top{top}' for k in (10, 20) for top in (1, 5)],
        svm=[f'feature{i}/svm_map' for i in range(1, 6)]
        + ['svm_map_best_by_test', 'svm_map_best_by_cv']
        + names['svm'][-2:],
        linear=['avgpool/top1', 'avgpool/top5'],
        linear_mhead=[
            f'feature{i}/top{top}' for i in range(1, 6) for top in (1, 5)
        ],
    )
    assert names['svm'][-2].endswith('/svm_k1_map_by_test')
    markdown = (tmp_path / 'out/results.md').read_text()
    page = (tmp_path / 'out/report.html').read_text()
    rows = [
        line
        for line in markdown.splitlines()
        if line.startswith(f'| {written["subjects"]["pretrained"]}, on ')
    ]
    assert [row.count(' - ') for row in rows] == [7, 7, 0, 2]
    for entry in written['entries']:
        for result in entry['results']:
            value = f'{result["value"]:.2f}'
            assert f'| {value} | {result["protocol"]} |' in markdown
            assert f'<td>{value}</td>' in page
    # Nothing is left to do.
    monkeypatch.setattr(suite, 'execute', None)
    again = run('--only', 'knn', 'svm', 'linear', 'linear_mhead', *small)
    assert again['entries'] == written['entries']


SEGMENTATION = [
    '--only',
    'fcn_voc12aug',
    '--iters',
    '3',
    '--cfg-options',
    *(
        f'{loader}_dataloader.{key}'
        for loader in ('train', 'val')
        for key in ('num_workers=0', 'persistent_workers=False')
    ),
    'train_dataloader.batch_size=2',
    'train_dataloader.dataset.datasets.0.pipeline.2.scale=(256,64)',
    'train_dataloader.dataset.datasets.0.pipeline.3.crop_size=(64,64)',
    'train_dataloader.dataset.datasets.0.pipeline.6.size=(64,64)',
    'model.data_preprocessor.size=(64,64)',
    'model.decode_head.channels=16',
    'model.auxiliary_head.channels=16',
    'val_dataloader.dataset.indices=6',
    'val_dataloader.dataset.pipeline.1.scale=(256,64)',
    'train_cfg.val_interval=3',
]
DETECTION = [
    '--only',
    'mask_rcnn_fpn_1x',
    '--epochs',
    '1',
    '--cfg-options',
    *(
        f'{loader}_dataloader.{key}'
        for loader in ('train', 'val')
        for key in (
            'num_workers=0',
            'persistent_workers=False',
            'dataset.indices=6',
        )
    ),
    'train_dataloader.batch_size=2',
    'train_dataloader.dataset.pipeline.2.scales=[(96,96)]',
    'val_dataloader.dataset.pipeline.1.scale=(96,96)',
    'model.train_cfg.rpn_proposal.max_per_img=20',
    'model.test_cfg.rpn.max_per_img=20',
    'model.test_cfg.rcnn.score_thr=0.',
]


@pytest.mark.parametrize(
    'options, library', [(SEGMENTATION, 'mmseg'), (DETECTION, 'mmdet')]
)
def test_pictures_of_real_runs(
    run: Callable[..., dict[str, Any]],
    suite: ModuleType,
    test_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    options: list[str],
    library: str,
) -> None:
    """Numbers and pictures reach the report."""
    pytest.importorskip(library)

    def execute(command: list[str], log: Path) -> None:
        path = command[command.index('--work-dir') + 1] + '/config.py'
        cfg = Config.fromfile(path)
        cfg.visualizer.name = f'{time.monotonic_ns()}'  # else the last one's
        cfg.dump(path)
        monkeypatch.setattr(
            sys,
            'argv',
            [
                *command[1:],
                '--cfg-options',
                f'experiment_name={time.monotonic_ns()}',
            ],
        )
        load_tool(Path(command[1]).stem).main()

    monkeypatch.setattr(suite, 'execute', execute)
    try:
        written = run(
            '--dataset',
            f'coco={test_data}/coco_mini',
            f'voc12aug={test_data}/voc2012_mini/VOCdevkit/VOC2012',
            *options,
        )
    finally:
        init_default_scope('swav_plugin')
    (entry,) = written['entries']
    results = {result['name']: result for result in entry['results']}
    number = results['mIoU' if library == 'mmseg' else 'coco/segm_mAP']
    assert 0 <= number['value'] <= 100
    assert number['protocol'].endswith(
        'after iteration 3 of 3'
        if library == 'mmseg'
        else 'after epoch 1 of 1'
    )
    assert len(entry['pictures']) == 4
    page = (tmp_path / 'out/report.html').read_text()
    for name in entry['pictures']:
        content = (tmp_path / 'out' / name).read_bytes()
        assert base64.b64encode(content).decode() in page
        with Image.open(tmp_path / 'out' / name) as picture:
            assert picture.width <= 400
            drawn = np.asarray(picture.convert('RGB'), np.float64)
        stem = Path(name).stem.partition('-')[2]
        (source,) = [
            *test_data.glob(f'coco_mini/val2017/{stem}.jpg'),
            *test_data.glob(f'voc2012_mini/*/*/*/{stem}.jpg'),
        ]
        with Image.open(source) as image:
            plain = np.asarray(
                image.convert('RGB').resize(drawn.shape[1::-1]), np.float64
            )
        if library == 'mmseg':  # every pixel has a class, and its colour
            assert np.abs(drawn - plain).mean() > 8


def test_what_a_failed_run_printed_is_told(
    suite: ModuleType, tmp_path: Path
) -> None:
    script = tmp_path / 'fail.py'
    script.write_text(
        'import sys\n'
        'for number in range(30): print("line", number)\n'
        'sys.exit("out of luck")\n'
    )
    log = tmp_path / 'log.txt'
    log.write_text('of an earlier run\n')
    reason = suite.execute([sys.executable, '-u', str(script)], log)
    lines = reason.splitlines()
    assert lines[0] == f'exit status 1; {log} ends with:'
    assert lines[1:] == [f'line {n}' for n in range(19, 30)] + ['out of luck']
    assert log.read_text().startswith('of an earlier run\nline 0\n')
    script.write_text('')
    assert suite.execute([sys.executable, str(script)], log) is None


@pytest.mark.skipif(not Path('/proc/self').exists(), reason='needs /proc')
def test_a_stopped_run_leaves_no_process(
    suite: ModuleType, tmp_path: Path
) -> None:
    """What is under way ends with the suite, and is not called done."""
    script = tmp_path / 'sleep.py'
    script.write_text(
        'import pathlib, time\npathlib.Path("begun").touch()\ntime.sleep(60)\n'
    )
    code = (
        f'import importlib.util, signal, sys\n'
        f'spec = importlib.util.spec_from_file_location("s", "{SUITE}")\n'
        'suite = importlib.util.module_from_spec(spec)\n'
        'spec.loader.exec_module(suite)\n'
        'suite.run_suite = lambda args: suite.execute(\n'
        '    [sys.executable, "sleep.py"], suite.Path("log.txt"))\n'
        'sys.argv = ["s", "w", "--out", "o"]\n'
        'suite.main()\n'
    )
    process = subprocess.Popen(
        [sys.executable, '-c', code], cwd=tmp_path, env=environment()
    )
    deadline = time.monotonic() + 240
    while not (tmp_path / 'begun').exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    (child,) = (
        int(name.name)
        for name in Path('/proc').iterdir()
        if name.name.isdigit() and is_child(name, process.pid)
    )
    process.terminate()
    assert process.wait(30) == 143
    assert not Path(f'/proc/{child}').exists()


def is_child(folder: Path, parent: int) -> bool:
    """Whether a process of /proc was started by `parent`."""
    try:
        return (
            int((folder / 'stat').read_text().rpartition(')')[2].split()[1])
            == parent
        )
    except (OSError, IndexError):
        return False
