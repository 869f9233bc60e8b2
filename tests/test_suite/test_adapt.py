"""Configs of the suite: what is adapted to network, data and options."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

from swav_plugin.checkpoints.model_settings import ModelSettings
from swav_plugin.engine.errors import UsageError
from swav_plugin.suite.adapt import (
    Options,
    dicts_of,
    make_config,
    set_dataset,
    set_length,
)
from swav_plugin.suite.benchmarks import BENCHMARKS, CONFIGS
from swav_plugin.suite.data import FoundDataset, look_at
from tests.test_suite.conftest import Fake


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
    # Found again by any run of the same folder.
    assert cfg.test_cfg.cache_dir == str(tmp_path / 'out/features')
    assert cfg.test_dataloader.dataset.data_root == f'{data}/imagenet/val'
    bank = cfg.test_cfg.bank_dataloader.dataset
    assert bank.data_root == f'{data}/imagenet/train'
    for dataset in (cfg.test_dataloader.dataset, bank):
        assert [
            node.get('scale', node.get('crop_size'))
            for node in dataset.pipeline[1:3]
        ] == [128, 112]
    # 36 images have no 100 neighbors.
    assert cfg.test_evaluator[0].k == [10, 20]
    (entry,) = written['entries']
    assert entry['notes'] == ['too few images for k = 100, 200']
    assert entry['is_stand_in']


def test_config_of_svm(
    run: Callable[..., dict[str, Any]], fake: Fake, data: Path, tmp_path: Path
) -> None:
    written = run('--only', 'svm')
    cfg = read_config(written, tmp_path)
    published = Config.fromfile(CONFIGS / 'classification/svm_voc07.py')
    assert cfg.test_cfg.windows == published.test_cfg.windows != 'adaptive'
    assert cfg.test_cfg.bank_dataloader.dataset.split == 'train'
    assert cfg.test_dataloader.dataset.split == 'val'
    assert cfg.test_dataloader.dataset.data_root == (
        f'{data}/VOCdevkit/VOC2007'
    )
    # Each class has 4 or 5 positive images of 84, and k needs 20 k in all.
    assert cfg.test_evaluator[0].low_shot_k == [1, 2, 4]
    assert written['entries'][0]['notes'] == [
        'train in place of trainval, val in place of test',
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
    assert (crop.type, crop.size) == ('RandomResizedCrop', 64)
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
def test_config_of_fine_tuning(name: str, tmp_path: Path) -> None:
    """The published data: nothing is left out, batches are whole."""
    (tmp_path / 'val/a').mkdir(parents=True)
    data = FoundDataset(BENCHMARKS[name].data, tmp_path, None)
    cfg, notes = make_config(
        name,
        dict(depth=18, stem_channels=64, base_channels=64),
        data,
        Options(gpus=4),
        tmp_path,
    )
    assert notes == []
    assert cfg.model.head.in_channels == 512
    assert cfg.train_dataloader.batch_size == (
        256 if name == 'cifar10' else 64
    )
    root = cfg.train_dataloader.dataset.data_root
    assert root == str(tmp_path) + '/train' * (name != 'cifar10')


def test_iterations_and_epochs_are_apart() -> None:
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
    set_length(cfg, 'epochs', 3)
    assert cfg.to_dict() == text
    set_length(cfg, 'iters', 100)
    assert cfg.train_cfg == dict(max_iters=100, val_interval=10)
    assert [step.end for step in cfg.param_scheduler] == [5, 100]
    assert cfg.param_scheduler[1].milestones == [75, 90]
    assert cfg.default_hooks.checkpoint.interval == 10
    # A warm-up that would be shorter than a step still ends.
    set_length(cfg, 'iters', 10)
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


@pytest.mark.parametrize('depth', [18, 50])
def test_config_of_detection(
    test_data: Path, tmp_path: Path, depth: int
) -> None:
    pytest.importorskip('mmdet')
    network = dict(depth=depth, stem_channels=8, base_channels=8)
    stages = [8, 16, 32, 64] if depth == 18 else [32, 64, 128, 256]
    options = Options(gpus=2, epochs=3, iters=24, image_size=64)
    root = test_data / 'voc2012_mini/VOCdevkit'
    data = look_at(BENCHMARKS['faster_rcnn_c4'].data, root)
    assert data[1:4] == (root, None, True)
    cfg, notes = make_config(
        'faster_rcnn_c4', network, data, options, tmp_path
    )
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
    coco = BENCHMARKS['mask_rcnn_fpn_1x'].data
    mini = look_at(coco, root)
    cfg, notes = make_config(
        'mask_rcnn_fpn_1x', network, mini, options, tmp_path
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
    whole = FoundDataset(coco, root, None)
    cfg, notes = make_config(
        'mask_rcnn_fpn_1x', network, whole, options, tmp_path
    )
    assert notes == []
    assert [step.end for step in cfg.param_scheduler] == [125, 3]
    name = 'faster_rcnn_fpn_1x'
    boxes = look_at(BENCHMARKS[name].data, root)
    cfg, notes = make_config(name, network, boxes, options, tmp_path)
    assert notes == ['80 classes', 'warm-up of 2 iterations']
    assert cfg.model.roi_head.bbox_head.num_classes == 80
    assert 'mask_head' not in cfg.model.roi_head
    cfg, _ = make_config('mask_rcnn_c4_1x', network, mini, options, tmp_path)
    assert cfg.model.roi_head.mask_head.in_channels == stages[3]


def test_coco_of_other_classes(tmp_path: Path) -> None:
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
        data = FoundDataset(
            BENCHMARKS['mask_rcnn_c4_1x'].data, tmp_path, None, True
        )
        return cfg, set_dataset(cfg, data)

    cfg, notes = stand_in()
    assert notes == ['2 classes']
    assert cfg.model.roi_head.mask_head.num_classes == 2
    assert list(cfg.test_dataloader.dataset.metainfo.classes) == [
        'nut',
        'bolt',
    ]


def test_flat_val_is_read_by_its_list(tmp_path: Path) -> None:
    (tmp_path / 'val').mkdir()
    (tmp_path / 'val/1.jpg').touch()
    cfg, _ = make_config(
        'knn',
        dict(depth=50, base_channels=64),
        FoundDataset(BENCHMARKS['knn'].data, tmp_path, None),
        Options(),
        tmp_path,
    )
    assert cfg.test_dataloader.dataset.ann_file == '../meta/val.txt'
    assert cfg.test_cfg.bank_dataloader.dataset.ann_file == ''


def test_options_have_the_last_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also about a hook that the suite adds, and by a name of version 0.1."""
    pytest.importorskip('mmseg')
    network = dict(depth=18, stem_channels=8, base_channels=8)

    def make(name: str, *options: str) -> Config:
        data = FoundDataset(BENCHMARKS[name].data, tmp_path, None)
        changes = Options(cfg_options=options)
        cfg, _ = make_config(name, network, data, changes, tmp_path)
        return cfg

    (tmp_path / 'val/a').mkdir(parents=True)
    cfg = make('fcn_voc12aug', 'default_hooks.pictures.num_pictures=9')
    assert cfg.default_hooks.pictures == dict(
        type='swav_plugin.PicturesHook', num_pictures=9
    )
    off = make('fcn_voc12aug', 'default_hooks.pictures=None')
    assert 'pictures' not in off.default_hooks
    assert capsys.readouterr().out == ''
    cfg = make('linear', 'linear:custom_hooks.0.checkpoint=w.pth')
    assert cfg.default_hooks.pretrained.checkpoint == 'w.pth'
    assert 'custom_hooks' not in cfg
    assert capsys.readouterr().out.startswith(
        'linear: --cfg-options custom_hooks.0.checkpoint is now default_hooks.'
    )


def test_only_folders_of_the_data_set_are_replaced() -> None:
    roots = dict(
        same='data/imagenet',
        below='data/imagenet/train',
        beside='data/imagenette/train',
        elsewhere='/data/imagenet/train',
    )
    cfg = Config(
        {
            name: dict(data_root=root, ann_file=root)
            for name, root in roots.items()
        }
    )
    set_dataset(
        cfg, FoundDataset(BENCHMARKS['linear'].data, Path('/mine'), None)
    )
    for key in ('data_root', 'ann_file'):
        assert {name: node[key] for name, node in cfg.items()} == dict(
            roots, same='/mine', below='/mine/train'
        )


def test_own_images_are_seen_as_in_training(
    data: Path, tmp_path: Path
) -> None:
    """Enlarged to 224 px they would be nothing that it has learned."""
    network = dict(depth=18, stem_channels=8, base_channels=8)
    small = ModelSettings(size=32, resize=40)

    def seen(
        is_stand_in: bool, settings: ModelSettings | None, size: int | None
    ) -> tuple[int, int, bool]:
        found = FoundDataset(
            BENCHMARKS['knn'].data, data / 'imagenet', None, is_stand_in
        )
        options = Options(settings=settings, image_size=size)
        cfg, notes = make_config('knn', network, found, options, tmp_path)
        resize, crop = (
            next(node[key] for node in dicts_of(cfg.to_dict()) if key in node)
            for key in ('scale', 'crop_size')
        )
        return resize, crop, 'images of 32 px, as the checkpoint says' in notes

    assert seen(True, small, None) == (40, 32, True)
    assert seen(True, small, 64) == (73, 64, False)
    assert seen(True, None, None) == (256, 224, False)
    # The protocol of a published set.
    assert seen(False, small, None) == (256, 224, False)


def test_labels_above_those_of_training(
    run: Callable[..., dict[str, Any]],
    fake: Fake,
    tmp_path: Path,
    data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The other benchmarks run; this one is listed with the reason."""
    root = tmp_path / 'places205'
    (root / 'meta').mkdir(parents=True)
    images = sorted((data / 'imagenet/train').rglob('*.png'))
    for split, labels in (('train', (0, 1, 2)), ('val', (0, 3))):
        lines = [f'{image} {label}' for label, image in zip(labels, images)]
        (root / f'meta/{split}.txt').write_text('\n'.join(lines))
    written = run(
        '--only', 'knn', 'places205', '--dataset', f'places205={root}'
    )
    knn, places = written['entries']
    assert knn['status'] == 'done' and places['status'] == 'skipped'
    reason = (
        f'labels of {root}/meta/val.txt go up to 3, those of '
        f'{root}/meta/train.txt only to 2; both sets need the same classes'
    )
    assert places['reason'] == reason
    assert f'places205: skipped, {reason}\n' in capsys.readouterr().out


def test_unreadable_images_are_left_out_if_asked(
    run: Callable[..., dict[str, Any]],
    fake: Fake,
    data: Path,
    weights: Path,
    tmp_path: Path,
) -> None:
    root = shutil.copytree(data / 'imagenet', tmp_path / 'own')
    (root / 'train/a/0.png').write_bytes(b'')
    (root / 'train/a/z.png').symlink_to('nowhere.png')
    given = ('--only', 'knn', '--dataset', f'imagenet={root}')
    reason = (
        f'{root}/train/a/0.png is empty; {root}/train/a/z.png: No such file '
        'or directory; 2 of 37 files are missing or empty.'
    )
    with pytest.raises(UsageError, match='nothing to run'):
        run(*given)
    assert look_at(BENCHMARKS['knn'].data, root).problem == reason
    run(*given, '--skip-unreadable')
    (config,) = tmp_path.glob('out/*/knn-*/config.py')
    cfg = Config.fromfile(config)
    for loader in (cfg.test_dataloader, cfg.test_cfg.bank_dataloader):
        assert loader.dataset.skip_unreadable
    # The real thing.
    for name in ('linear', 'svm'):
        cfg, _ = make_config(
            name,
            dict(depth=18, stem_channels=8, base_channels=8),
            FoundDataset(BENCHMARKS[name].data, root, None),
            Options(skip_unreadable=True),
            tmp_path,
        )
        datasets = [
            node
            for node in dicts_of(cfg._cfg_dict)
            if node.get('type') in ('ImageFolder', 'VOC07')
        ]
        assert len(datasets) >= 2
        assert all(dataset.skip_unreadable for dataset in datasets)
