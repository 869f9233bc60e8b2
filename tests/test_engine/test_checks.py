"""Refuse a Runner whose parts do not fit together."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import RepeatDataset
from mmengine.runner import Runner
from torch import nn

from swav_plugin.checkpoints import Checkpoint
from swav_plugin.checkpoints.file_kind import CheckpointError
from swav_plugin.datasets import ImageFolder
from swav_plugin.engine import PretrainedHook
from swav_plugin.engine.checks import (
    check_labels,
    check_load_from,
    check_ranks,
    check_resume,
    check_same_start,
    digest_images,
)
from swav_plugin.engine.errors import UsageError

from ..distributed import run_on_ranks
from ..test_datasets.conftest import write_image


def classifier_runner(root: Path, names: list[str]) -> Runner:
    """A Runner with a head for three classes and a list file for each set."""
    (root / 'a.jpg').touch()
    loaders = {
        f'{name}_dataloader': dict(
            batch_size=1,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(
                type='ImageFolder', data_root=str(root), ann_file=f'{name}.txt'
            ),
        )
        for name in names
    }
    return Runner.from_cfg(
        Config(
            dict(
                default_scope='swav_plugin',
                work_dir=str(root / 'work'),
                model=dict(
                    type='ImageClassifier',
                    backbone=dict(type='ResNet', depth=18),
                    head=dict(
                        type='LinearClsHead', num_classes=3, in_channels=512
                    ),
                ),
                train_cfg=dict(by_epoch=True, max_epochs=1),
                optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
                **(
                    {'val_cfg': {}, 'val_evaluator': dict(type='Accuracy')}
                    if 'val' in names
                    else {}
                ),
                **loaders,
            )
        )
    )


def detector(base_channels: int = 2) -> nn.Module:
    """Make the parts of a C4 detector that are filled, and a head."""
    model = nn.Module()
    model.backbone = nn.Conv2d(3, base_channels, 1)
    model.roi_head = nn.Module()
    model.roi_head.shared_head = nn.Module()
    model.roi_head.shared_head.layer4 = nn.Linear(2, 2)
    model.roi_head.shared_head.norm = nn.Linear(2, 2)
    model.roi_head.bbox_head = nn.Linear(2, 5)
    return model


@pytest.mark.parametrize('lost', ['backbone', 'roi_head.shared_head.layer4'])
def test_load_from_fills_all_that_is_pretrained(
    tmp_path: Path, lost: str
) -> None:
    path = str(tmp_path / 'w.pth')
    runner = SimpleNamespace(model=detector(), cfg=dict(load_from=path))
    state = detector().state_dict()
    # They have different classes, or were not pretrained.
    del state['roi_head.bbox_head.weight']
    del state['roi_head.shared_head.norm.weight']
    torch.save({f'module.{key}': value for key, value in state.items()}, path)
    check_load_from(runner)
    torch.save(detector(4).state_dict(), path)
    with pytest.raises(UsageError, match='or have a different shape'):
        check_load_from(runner)
    torch.save(
        {
            key: value
            for key, value in state.items()
            if not key.startswith(lost)
        },
        path,
    )
    with pytest.raises(UsageError, match=f'such as {lost}.bias'):
        check_load_from(runner)


def test_only_training_runs_are_resumed(tmp_path: Path) -> None:
    path = tmp_path / 'epoch_1.pth'
    hook = PretrainedHook('random')
    runner = SimpleNamespace(
        hooks=[hook],
        work_dir=str(tmp_path),
        cfg=dict(resume=True),
        model=nn.Module(),
        optim_wrapper=None,
    )
    check_resume(runner)  # there is nothing yet
    some = {'conv1.weight': torch.zeros(1)}
    for weights in (
        some,
        dict(state_dict=some, meta=dict(epoch=1)),
        dict(state_dict=some, optimizer={}, meta=dict(epoch=1, iter=5)),
    ):
        torch.save(weights, path)
        with pytest.raises(
            CheckpointError, match='weights, but not the state of a run'
        ):
            check_resume(runner)
    checkpoint = dict(
        meta=dict(epoch=1, iter=5),
        optimizer={},
        state_dict=some,
        message_hub={},
    )
    hook.origin = dict(name='random', sha256='')
    hook.before_save_checkpoint(None, checkpoint)
    torch.save(checkpoint, path)
    check_resume(runner)
    torch.save({'conv1.weight': torch.zeros(1)}, tmp_path / 'w.pth')
    hook.checkpoint = Checkpoint(tmp_path / 'w.pth')
    with pytest.raises(ValueError, match='that began with random, not with'):
        check_resume(runner)
    hook.checkpoint = None  # nothing is claimed
    check_resume(runner)


def test_labels_without_a_class(tmp_path: Path) -> None:
    (tmp_path / 'train.txt').write_text('a.jpg 2\n')
    (tmp_path / 'val.txt').write_text('a.jpg 3\n')
    runner = classifier_runner(tmp_path, ['train', 'val'])
    check_labels(runner, 'train', 'test')
    with pytest.raises(
        UsageError,
        match='labels of val_dataloader go up to '
        '3, but the head has 3 classes, 0 to 2; set model',
    ):
        check_labels(runner, 'train', 'val')
    runner.model.head = None
    check_labels(runner, 'train', 'val')
    (tmp_path / 'train.txt').write_text('a.jpg 7\n')
    runner = classifier_runner(tmp_path, ['train'])
    with pytest.raises(UsageError, match='train_dataloader go up to 7'):
        check_labels(runner, 'train', 'val')


def describe_difference(rank: int, name: str) -> str:
    """Check ranks of which the last one differs; return the message."""
    lr = rank if name == 'config' else 0
    runner = SimpleNamespace(
        train_dataloader=SimpleNamespace(dataset=[0] * (5 - rank // 2)),
        seed=rank if name == 'seed' else 3,
    )
    if name != 'images':
        runner.train_dataloader.dataset = [0]
    try:
        check_same_start(Config(dict(optimizer=dict(type='SGD', lr=lr))))
        check_ranks(runner)
    except UsageError as error:
        return str(error)
    return ''


@pytest.mark.parametrize(
    'name, message',
    [
        ('nothing', ''),
        ('images', 'rank 2 differ in the number of training images: 5 and 4'),
        ('seed', 'rank 1 differ in the seed: 0 and 1'),
        ('config', 'rank 1 differ in the config, optimizer.lr: 0 and 1'),
    ],
)
def test_ranks_that_differ(name: str, message: str) -> None:
    if message:
        message = (
            f'rank 0 and {message}; start all ranks with the same files and '
            'arguments'
        )
    assert run_on_ranks(describe_difference, 3, name) == [message] * 3


def test_digests_of_images(tmp_path: Path) -> None:
    for number in range(3):
        write_image(tmp_path / f'{number}.png', number)
    first = digest_images(ImageFolder(tmp_path))
    assert all(first) and first == digest_images(ImageFolder(tmp_path))
    repeated = RepeatDataset(ImageFolder(tmp_path), times=2)
    assert digest_images(repeated) == first
    with open(tmp_path / '1.png', 'ab') as file:
        file.write(b'more')
    names, sizes = digest_images(ImageFolder(tmp_path))
    assert names == first[0] and sizes != first[1]
    (tmp_path / '1.png').rename(tmp_path / '1b.png')
    assert digest_images(ImageFolder(tmp_path))[0] != names
    assert digest_images([0, 0]) == ('', '')
