"""FeatureEvalLoop: right features, made once, while a run trains and alone."""

import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from mmengine.dist import get_rank
from mmengine.runner import Runner
from PIL import Image
from torch import nn

import swav_plugin.models  # noqa: F401
from swav_plugin.datasets.transforms import UnreadableImage, read_rgb
from swav_plugin.engine.errors import UsageError
from swav_plugin.evaluation import (
    FeatureEvalLoop,
    FeatureSet,
    Labels,
    Result,
    feature_loop,
)
from swav_plugin.models.feature_pooling import pool_feature
from tests.distributed import run_on_ranks

MEAN, STD = [120.0, 110.0, 100.0], [60.0, 50.0, 40.0]
NORM = dict(type='BN')
# Narrower, and convolutions of torch 2.14 (oneDNN) overwrite memory.
BACKBONE = dict(
    type='ResNetWithStem',
    depth=18,
    stem_channels=8,
    base_channels=8,
    norm_cfg=NORM,
)
MODEL = dict(
    type='SwAV',
    data_preprocessor=dict(type='MultiViewPreprocessor', mean=MEAN, std=STD),
    backbone=BACKBONE,
    neck=dict(type='SwAVNeck', in_channels=64, hid_channels=8, out_channels=4),
    head=dict(type='SwAVHead', num_prototypes=4),
)
KNN5 = dict(type='KNN', k=[5])
COUNTS = (
    'train_images',
    'train_unreadable',
    'test_images',
    'test_unreadable',
)
FEATURES = ['avgpool', 'neck'] + [f'feature{i}' for i in range(1, 6)]


class Capture:
    """An evaluator that keeps what it is given."""

    features = None
    seen: list[tuple[FeatureSet, FeatureSet]] = []

    def check(self, bank: Labels, test: Labels) -> None:
        """Take anything."""

    def evaluate(self, bank: FeatureSet, test: FeatureSet) -> list[Result]:
        """Sum the first feature."""
        self.seen.append((bank, test))
        total = sum(
            float(rows[:].double().sum()) for rows in test.features.values()
        )
        return [Result('sum', total, 'of all features')]


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of colored noise: 13 training and 7 test images."""
    root = tmp_path_factory.mktemp('images')
    for split, count in (('train', 13), ('val', 7)):
        for number in range(count):
            rng = np.random.default_rng([count, number])
            img = rng.integers(128, size=(32, 32, 3), dtype=np.uint8)
            img[..., number % 3] += 64
            path = root / split / f'class{number % 3}' / f'{number}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(img).save(path)
    return root


def loader(root: Path, **dataset: Any) -> dict:
    return dict(
        batch_size=2,
        num_workers=0,
        dataset=dict(
            type='ImageFolder',
            data_root=str(root),
            test_mode=True,
            pipeline=[dict(type='LoadImage'), dict(type='PackViews')],
        )
        | dataset,
    )


def make_runner(
    images: Path,
    work_dir: Path,
    evaluator: Any = None,
    seed: int = 0,
    runner: dict | None = None,
    **loop: Any,
) -> Runner:
    """A runner whose test loop is a FeatureEvalLoop, with random weights."""
    torch.manual_seed(seed)
    config: dict[str, Any] = dict(
        model=MODEL,
        work_dir=str(work_dir),
        test_dataloader=loader(images / 'val'),
        test_evaluator=evaluator or dict(type=Capture),
        test_cfg=dict(
            type='FeatureEvalLoop',
            bank_dataloader=loader(images / 'train'),
            dtype='float32',
            windows='adaptive',
        )
        | loop,
        randomness=dict(seed=seed),
        default_scope='swav_plugin',
        log_level='WARNING',
        experiment_name=uuid.uuid4().hex,
    )
    built = Runner(**{**config, **(runner or {})})
    return built


def extract(*args: Any, **kwargs: Any) -> tuple[FeatureSet, FeatureSet]:
    make_runner(*args, **kwargs).test()
    return Capture.seen[-1]


def test_features_are_those_of_the_model(images: Path, tmp_path: Path) -> None:
    runner = make_runner(images, tmp_path, features=FEATURES)
    runner.model.train()
    runner.model.backbone.layer2.eval()
    before = {k: v.clone() for k, v in runner.model.state_dict().items()}
    runner.test()
    bank, test = Capture.seen[-1]
    # Nothing of the model has changed, modes included.
    after = runner.model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert runner.model.training and runner.model.neck.training
    assert not runner.model.backbone.layer2.training
    assert not [*tmp_path.glob('features.*')]

    files = sorted((images / 'val').rglob('*.png'))
    assert test.labels.values.tolist() == [
        int(f.parent.name[-1]) for f in files
    ]
    assert test.labels.classes == ('class0', 'class1', 'class2')
    assert len(bank.labels.values) == len(bank.features['avgpool']) == 13
    batch = np.stack([read_rgb(file) for file in files])
    inputs = torch.tensor((batch - MEAN) / STD).float().permute(0, 3, 1, 2)
    runner.model.eval()
    with torch.no_grad():
        maps = runner.model.backbone(inputs)
        pooled = maps[-1].mean((2, 3))
        expected = dict(avgpool=pooled, neck=runner.model.neck(pooled))
    for i, grid in enumerate((12, 6, 4, 3, 2)):
        name = f'feature{i + 1}'
        expected[name] = pool_feature(maps[i], name, grid)
    assert list(test.features) == FEATURES
    for name, rows in test.features.items():
        torch.testing.assert_close(
            rows[:], expected[name], rtol=1e-4, atol=1e-5
        )


def count_batches(runner: Runner) -> int:
    """Count the batches that the backbone sees in a test."""
    backbone = runner.model.backbone
    with mock.patch.object(
        backbone, 'forward', wraps=backbone.forward
    ) as forward:
        runner.test()
    return forward.call_count


def test_cached_features_are_used_again(images: Path, tmp_path: Path) -> None:
    cache = dict(cache_dir=str(tmp_path / 'cache'))
    assert count_batches(make_runner(images, tmp_path, **cache)) == 7 + 4
    first = Capture.seen[-1][1].features['avgpool'][:].clone()
    assert count_batches(make_runner(images, tmp_path, **cache)) == 0
    assert torch.equal(Capture.seen[-1][1].features['avgpool'][:], first)
    # One more feature is all that is made of two.
    both = dict(cache, features=['avgpool', 'feature5'])
    assert count_batches(make_runner(images, tmp_path, **both)) == 11
    assert count_batches(make_runner(images, tmp_path, **both)) == 0


def test_a_cache_is_never_that_of_something_else(
    images: Path, tmp_path: Path
) -> None:
    cache = dict(cache_dir=str(tmp_path / 'cache'))
    first = extract(images, tmp_path, **cache)[1].features['avgpool'][:]

    # Other weights, even in one number alone.
    runner = make_runner(images, tmp_path, **cache)
    runner.model.backbone.layer4[1].bn2.running_mean[0] += 1e-3
    assert count_batches(runner) == 11
    other = Capture.seen[-1][1].features['avgpool'][:]
    assert not torch.equal(other, first)
    # Another mean of the pixels, in what is not part of the weights.
    model = MODEL | dict(
        data_preprocessor=MODEL['data_preprocessor'] | dict(mean=STD)
    )
    runner = make_runner(images, tmp_path, runner=dict(model=model), **cache)
    assert count_batches(runner) == 11
    # Other transforms, of the test images alone.
    pipeline = [
        dict(type='LoadImage'),
        dict(type='CenterCrop', crop_size=24),
        dict(type='PackViews'),
    ]
    changed = dict(test_dataloader=loader(images / 'val', pipeline=pipeline))
    runner = make_runner(images, tmp_path, runner=changed, **cache)
    assert count_batches(runner) == 4
    # Another type on disk.
    runner = make_runner(images, tmp_path, **cache | dict(dtype='float16'))
    assert count_batches(runner) == 11
    # An image that was written again.
    path = next((images / 'val').rglob('*.png'))
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
    assert count_batches(make_runner(images, tmp_path, **cache)) == 4
    assert count_batches(make_runner(images, tmp_path, **cache)) == 0


def test_a_crash_leaves_no_cache(images: Path, tmp_path: Path) -> None:
    cache = dict(cache_dir=str(tmp_path / 'cache'))
    runner = make_runner(images, tmp_path, **cache)
    training = runner.model.training
    with mock.patch.object(
        feature_loop.ShardWriter, 'close', side_effect=KeyError('stop')
    ):
        with pytest.raises(KeyError, match='stop'):
            runner.test()
    assert runner.model.training == training
    assert not [*tmp_path.rglob('*.npy')]
    assert count_batches(make_runner(images, tmp_path, **cache)) == 11


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    'change',
    [
        lambda folder: spoil(folder / '00000.npy'),
        lambda folder: (folder / '00000.npy').write_text('no features'),
        lambda folder: (folder / 'meta.json').write_text('not JSON'),
        lambda folder: (shutil.rmtree(folder), folder.mkdir()),
        lambda folder: (shutil.rmtree(folder), folder.write_text('a file')),
    ],
)
def test_damaged_features_are_made_again(
    change: Callable[[Path], Any], images: Path, tmp_path: Path
) -> None:
    cache = dict(cache_dir=str(tmp_path / 'cache'))
    first = extract(images, tmp_path, **cache)[1].features['avgpool'][:]
    first = first.clone()
    (folder,) = (tmp_path / 'cache').glob('test-*/avgpool-float32')
    change(folder)
    runner = make_runner(images, tmp_path, **cache)
    with mock.patch.object(runner.logger, 'warning') as warning:
        assert count_batches(runner) == 4
    assert warning.call_args.args[0].startswith(
        f'test: the features in {folder} are damaged and made again: '
    )
    assert torch.equal(Capture.seen[-1][1].features['avgpool'][:], first)
    assert count_batches(make_runner(images, tmp_path, **cache)) == 0


def test_features_that_are_not_numbers_end_the_run(
    images: Path, tmp_path: Path
) -> None:
    cache = dict(cache_dir=str(tmp_path / 'cache'))
    runner = make_runner(images, tmp_path, **cache)
    runner.model.backbone.layer4[1].bn2.bias.data[0] = torch.nan
    with pytest.raises(
        UsageError,
        match='avgpool is not finite in float32 for 2 of a batch of 2 images, '
        f'{images}/train/class0/0.png, .*: the weights are broken',
    ):
        runner.test()
    assert not [*tmp_path.rglob('*.npy')]


@pytest.fixture
def spoiled(images: Path, tmp_path: Path) -> Path:
    """The images; two training and one test image cannot be read."""
    root = tmp_path / 'spoiled'
    shutil.copytree(images, root)
    for name in ('train/class0/0', 'train/class2/5', 'val/class1/4'):
        path = root / f'{name}.png'
        path.write_bytes(path.read_bytes()[:200])
    return root


def test_unreadable_images_are_named_before_features_are_made(
    spoiled: Path, tmp_path: Path
) -> None:
    runner = make_runner(spoiled, tmp_path)
    with mock.patch.object(
        runner.model.backbone, 'forward', side_effect=AssertionError
    ):
        with pytest.raises(ValueError) as error:
            runner.test()
    assert [line[:40] for line in str(error.value).splitlines()] == [
        line[:40]
        for line in (
            'images that cannot be read:',
            f'bank set: {spoiled}/train/class0/0.png: ',
            f'bank set: {spoiled}/train/class2/5.png: ',
            f'test set: {spoiled}/val/class1/4.png: ',
            '3 of 20 images cannot be read; mend or remove them',
        )
    ]
    # At the start of a run, not after its first epoch.
    with pytest.raises(ValueError, match='3 of 20 images cannot be read'):
        train(spoiled, tmp_path / 'train', True)


def test_unreadable_images_are_left_out_and_counted(
    spoiled: Path, tmp_path: Path
) -> None:
    def skipping(split: str) -> dict:
        return loader(spoiled / split, skip_unreadable=True)

    def run(root: Path, **more: Any) -> tuple[dict[str, float], list[dict]]:
        work_dir = tmp_path / f'work_{root.name}'
        metrics = make_runner(root, work_dir, KNN5, **more).test()
        (file,) = work_dir.rglob('results.json')
        return metrics, json.loads(file.read_text())

    metrics, results = run(
        spoiled,
        bank_dataloader=skipping('train'),
        runner=dict(test_dataloader=skipping('val')),
    )
    for result in results:
        fields = result['fields']
        assert [fields[f'num_{name}'] for name in COUNTS] == [11, 2, 6, 1]
        assert result['protocol'].endswith(
            'bank of 11, 6 test images, unreadable images left out: '
            '2 training and 1 test'
        )
    # As if they had never been there.
    for path in spoiled.rglob('*.png'):
        try:
            read_rgb(path)
        except UnreadableImage:
            path.unlink()
    clean = shutil.copytree(spoiled, tmp_path / 'clean')
    expected, results = run(clean)
    assert metrics == expected
    assert 'unreadable' not in results[0]['protocol']
    fields = results[0]['fields']
    assert [fields[f'num_{name}'] for name in COUNTS] == [11, 0, 6, 0]


def test_results_have_their_protocol_in_a_file(
    images: Path, tmp_path: Path
) -> None:
    metrics = make_runner(
        images, tmp_path, [dict(type='KNN', k=[1, 13]), dict(type=Capture)]
    ).test()
    assert list(metrics) == [
        'avgpool/knn1_top1',
        'avgpool/knn1_top5',
        'avgpool/knn13_top1',
        'avgpool/knn13_top5',
        'sum',
    ]
    # 13 neighbors are the whole bank: every class has a vote.
    assert metrics['avgpool/knn13_top5'] == 100
    (file,) = tmp_path.rglob('results.json')
    results = json.loads(file.read_text())
    assert {r['name']: r['value'] for r in results} == metrics
    assert results[0]['protocol'].startswith('avgpool, k=1, T=0.07, cosine')
    fields = results[0]['fields']
    assert (fields['feature'], fields['k'], fields['top']) == ('avgpool', 1, 1)
    assert fields['train_set'] == str(images / 'train')
    assert fields['test_set'] == str(images / 'val')
    assert (fields['num_train_images'], fields['num_test_images']) == (13, 7)
    # An evaluator of somebody else may give a sentence alone.
    assert results[-1]['protocol'] == 'of all features'
    assert results[-1]['fields'] == {}


def _test_on_rank(
    rank: int, images: Path, work_dir: Path, cache_dir: str | None
) -> tuple:
    runner = make_runner(
        images,
        work_dir,
        [dict(type='KNN', k=[1, 4]), dict(type=Capture)],
        features=['avgpool', 'feature3'],
        cache_dir=cache_dir,
    )
    # As after training with plain batch norm; checkpoints have rank 0's.
    mean = runner.model.backbone.layer1[0].bn1.running_mean
    mean += 0.1 * get_rank()
    own = mean.clone()
    metrics = runner.test()
    assert torch.equal(mean, own)
    bank, test = Capture.seen[-1]
    return metrics, bank.features['feature3'][:].clone()


@pytest.mark.parametrize('world_size', [2, 3])
def test_ranks_give_the_numbers_of_one(
    world_size: int, images: Path, tmp_path: Path
) -> None:
    # 13 images in batches of 2: ranks have 8, 5 or 4, 4, 5; 7 of 4 batches.
    args = (images, tmp_path)
    metrics, features = _test_on_rank(0, *args, None)
    for ours, rows in run_on_ranks(_test_on_rank, world_size, *args, None):
        assert torch.equal(rows, features)
        assert ours == metrics


def test_ranks_share_a_cache_with_one(images: Path, tmp_path: Path) -> None:
    cache = str(tmp_path / 'cache')
    run_on_ranks(_test_on_rank, 2, images, tmp_path, cache)
    runner = make_runner(
        images, tmp_path, cache_dir=cache, features=['avgpool', 'feature3']
    )
    assert count_batches(runner) == 0


def train(images: Path, work_dir: Path, with_eval: bool) -> Runner:
    """Two epochs of SwAV on noise, with kNN after each or without."""
    views = dict(
        type='MultiView',
        num_views=[2],
        transforms=[[dict(type='RandomResizedCrop', size=32)]],
    )
    train_loader = loader(
        images / 'train',
        pipeline=[dict(type='LoadImage'), views, dict(type='PackViews')],
        test_mode=False,
    )
    # Random numbers of the process, so that a loop which draws some shows.
    train_loader |= dict(
        batch_size=4,
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='default_collate'),
        drop_last=True,
    )
    dropout = MODEL | dict(backbone=BACKBONE | dict(drop_path_rate=0.5))
    config = dict(
        model=dropout,
        train_dataloader=train_loader,
        train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=[dict(type='SwAVHook')],
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        visualizer=dict(
            type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]
        ),
        test_dataloader=None,
        test_cfg=None,
        test_evaluator=None,
    )
    if with_eval:
        config |= dict(
            val_dataloader=loader(images / 'val'),
            val_evaluator=[dict(type='KNN', k=[5])],
            val_cfg=dict(
                type='FeatureEvalLoop',
                bank_dataloader=loader(images / 'train'),
            ),
        )
    runner = make_runner(images, work_dir, runner=config)
    runner.train()
    return runner


def read_scalars(work_dir: Path) -> list[dict]:
    (file,) = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_training_goes_on_as_if_nothing_had_happened(
    images: Path, tmp_path: Path
) -> None:
    without = train(images, tmp_path / 'without', False)
    with_eval = train(images, tmp_path / 'with', True)
    expected, found = [
        runner.model.state_dict() for runner in (without, with_eval)
    ]
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    losses = [
        row['loss'] for row in read_scalars(tmp_path / 'with') if 'loss' in row
    ]
    assert len(losses) == 6 and len(set(losses)) > 1
    # The curve: a point for each epoch.
    points = [
        (row['step'], row['avgpool/knn5_top1'])
        for row in read_scalars(tmp_path / 'with')
        if 'avgpool/knn5_top1' in row
    ]
    assert [step for step, _ in points] == [1, 2]
    assert not [*(tmp_path / 'with').glob('features.*')]


Change = Callable[[dict, Path], Any]


@pytest.mark.parametrize(
    'loop, message',
    [
        (dict(features=['feature6']), "no feature 'feature6'; use 'avgpool'"),
        (dict(windows='all'), "windows='all'; use 'mmselfsup' or"),
        (dict(dtype='int8'), "dtype='int8'; use 'float16'"),
    ],
)
def test_wrong_settings_are_refused(
    loop: dict, message: str, images: Path, tmp_path: Path
) -> None:
    runner = make_runner(images, tmp_path, **loop)
    with pytest.raises(ValueError, match=message):
        runner.test()


def test_sets_that_do_not_fit_are_refused_before_the_first_image(
    images: Path, tmp_path: Path
) -> None:
    def refused(message: str, evaluator: Any = None, **changes: Any) -> None:
        bank = changes.pop('bank', None)
        more = dict(bank_dataloader=bank) if bank else {}
        runner = make_runner(
            images, tmp_path, evaluator, runner=changes, **more
        )
        with mock.patch.object(
            runner.model.backbone, 'forward', side_effect=AssertionError
        ):
            with pytest.raises(ValueError, match=message):
                runner.test()

    val = images / 'val'
    refused('k=14 neighbors and a bank of 13', dict(type='KNN', k=[1, 14]))
    refused(
        'test set has test_mode=False: an unreadable image',
        test_dataloader=loader(val, test_mode=False),
    )
    refused(
        'bank set has no label for image 0, .*class0',
        bank=loader(images / 'train/class0'),
    )
    other = tmp_path / 'other/dog'
    other.mkdir(parents=True)
    (other / '1.png').symlink_to(next(val.rglob('*.png')))
    refused(
        r'different classes \(3 and 1; in one of them only: class0',
        test_dataloader=loader(other.parent),
    )
    refused(
        'is not supported here',
        test_dataloader=loader(val)
        | dict(sampler=dict(type='DefaultSampler', shuffle=True)),
    )
    lists = tmp_path / 'list.txt'
    lists.write_text(f'{next(val.rglob("*.png")).relative_to(val)} 7\n')
    refused(
        'bank set only up to 2|up to 7',
        dict(type='KNN', k=[1]),
        test_dataloader=loader(val, ann_file=str(lists)),
    )
    refused(
        "KNN wants .'neck'. but the loop extracts .'avgpool'",
        dict(type='KNN', k=[1], features=['neck']),
    )
    plain = MODEL | dict(backbone=BACKBONE | dict(type='ResNet'))
    runner = make_runner(
        images, tmp_path, runner=dict(model=plain), features=['feature1']
    )
    with pytest.raises(
        ValueError,
        match="'feature1' needs output 0 of the "
        "backbone; set model.backbone.type='ResNetWithStem'",
    ):
        runner.test()


def test_several_views_of_an_image_are_refused(
    images: Path, tmp_path: Path
) -> None:
    views = [
        dict(type='LoadImage'),
        dict(type='MultiView', num_views=[2], transforms=[[]]),
        dict(type='PackViews'),
    ]
    runner = make_runner(
        images,
        tmp_path,
        bank_dataloader=loader(images / 'train', pipeline=views),
    )
    with pytest.raises(ValueError, match='bank set gives several views'):
        runner.test()


def test_transformers_without_maps_have_their_vector(
    images: Path, tmp_path: Path
) -> None:
    class Vectors(nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
            return (images.mean((2, 3)),)

    runner = make_runner(images, tmp_path)
    runner.model.backbone = Vectors()
    runner.test()
    first = read_rgb(sorted((images / 'val').rglob('*.png'))[0])
    torch.testing.assert_close(
        Capture.seen[-1][1].features['avgpool'][:1],
        torch.tensor((first.mean((0, 1)) - MEAN) / STD).float()[None],
    )


TINY = dict(embed_dims=24, num_layers=1, num_heads=3, feedforward_channels=48)


@pytest.mark.parametrize(
    'kind, options',
    [
        ('VisionTransformer', dict(out_type='cls_token')),
        ('VisionTransformer', dict(out_type='raw')),
        ('VisionTransformer', dict(out_type='featmap')),
        ('VisionTransformer', dict(out_type='avg_featmap')),
        ('DistilledVisionTransformer', dict()),
    ],
)
def test_neighbors_of_transformers(
    kind: str, options: dict, images: Path, tmp_path: Path
) -> None:
    backbone = dict(type=kind, arch=TINY, img_size=32, patch_size=8, **options)
    model = MODEL | dict(backbone=backbone)
    runner = make_runner(images, tmp_path, KNN5, runner=dict(model=model))
    assert {*runner.test()} == {'avgpool/knn5_top1', 'avgpool/knn5_top5'}


def test_outputs_that_cannot_be_pooled_end_in_one_line(
    images: Path, tmp_path: Path
) -> None:
    runner = make_runner(images, tmp_path)
    pair = [torch.zeros(2, 3), torch.zeros(2, 5)]
    with mock.patch.object(
        runner.model.backbone, 'forward', return_value=(pair,)
    ):
        with pytest.raises(UsageError, match='which cannot be pooled; expec'):
            runner.test()


def test_loop_is_registered() -> None:
    from swav_plugin.registry import LOOPS

    assert LOOPS.get('swav_plugin.FeatureEvalLoop') is FeatureEvalLoop
