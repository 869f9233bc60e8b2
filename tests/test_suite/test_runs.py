"""Check what the suite runs, skips, keeps and writes."""

import base64
import importlib.util
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
from mmengine.registry import init_default_scope
from PIL import Image

import swav_plugin
from swav_plugin.compat.stack import downstream_hint
from swav_plugin.suite import measure
from tests.conftest import REPO_ROOT
from tests.test_suite.conftest import Fake, statuses


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


def test_results_of_an_earlier_version(
    run: Callable[..., dict[str, Any]],
    fake: Fake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They are kept, a run that was stopped goes on, and it is told."""
    fake.failing = ['linear-']
    run('--only', 'knn', 'linear', failed=1)
    fake.failing = []
    capsys.readouterr()
    monkeypatch.setattr(measure, '__version__', '9.9.9')
    knn, linear = run('--only', 'knn', 'linear')['entries']
    assert fake.names() == ['knn test.py', 'linear train.py'] + [
        'linear train.py'
    ]
    old = swav_plugin.__version__
    assert knn['versions'] == [old]
    assert linear['versions'] == [old, '9.9.9']
    printed = capsys.readouterr().out
    assert f'/log.txt, done before with swav_plugin {old}\n' in printed
    svm, knn = run('--only', 'svm', 'knn')['entries'][::-1]
    assert svm['versions'] == ['9.9.9'] and knn['versions'] == [old]
    markdown = (tmp_path / 'out/results.md').read_text()
    assert f's; swav_plugin {old}.' in markdown
    assert 's; swav_plugin 9.9.9.' in markdown


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
    fake: Fake,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped after the last epoch, before the numbers were written."""
    fake.silent = ['train.py']
    monkeypatch.setattr(measure, 'find_checkpoint', lambda folder: 'last.pth')
    written = run('--only', 'linear')
    assert fake.names() == ['linear train.py', 'linear test.py']
    assert 'last.pth' in fake.commands[1]
    assert written['entries'][0]['results'][0]['value'] == 2


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
        f'{library} is not installed: {downstream_hint()}'
    )


def load_tool(name: str) -> ModuleType:
    """A command of tools/ as a module."""
    spec = importlib.util.spec_from_file_location(
        name, REPO_ROOT / f'tools/{name}.py'
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_numbers_of_real_runs(
    run: Callable[..., dict[str, Any]],
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

    monkeypatch.setattr(measure, 'execute', execute)
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
    assert [row.count(' - ') for row in rows] == [2, 7, 7, 0]
    for entry in written['entries']:
        for result in entry['results']:
            value = f'{result["value"]:.2f}'
            assert f'| {value} | {result["protocol"]} |' in markdown
            assert f'<td>{value}</td>' in page
    # Nothing is left to do.
    monkeypatch.setattr(measure, 'execute', None)
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

    monkeypatch.setattr(measure, 'execute', execute)
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
        if library == 'mmseg':  # every pixel has a class, and its color
            assert np.abs(drawn - plain).mean() > 8
