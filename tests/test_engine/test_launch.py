"""From command lines to configs, and what is refused on the way."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn

from swav_plugin.compat import stack
from swav_plugin.engine import PretrainedHook, launch
from swav_plugin.engine.launch import (
    UsageError,
    check_keys,
    check_labels,
    check_load_from,
    check_resume,
    find_checkpoint,
    load_config,
    parse_options,
    set_launcher,
    set_mixed_precision,
)

CONFIG = """
data_root = 'data'
epochs = 3
train_dataloader = dict(
    batch_size=8, num_workers=2, dataset=dict(data_root=data_root))
custom_hooks = [dict(type='SwAVHook', queue_begin_epoch=0)]
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
optim_wrapper = dict(optimizer=dict(type='LARS', lr=.3))
model = dict(type='SwAV', head=dict(num_prototypes=30, queue=None))
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / 'config.py'
    file.write_text(CONFIG)
    return str(file)


def test_options_change_the_config(path: str) -> None:
    cfg = load_config(
        path,
        [
            'train_dataloader.batch_size=4',
            'custom_hooks.0.queue_begin_epoch=5',
            'train_dataloader.dataset.data_root=/my photos',
            'model.head.num_prototypes=[30, 40]',
            'model.head.new=None',
            'load_from=w.pth',
            'optim_wrapper.clip_grad.max_norm=1',
        ],
    )
    assert cfg.train_dataloader == dict(
        batch_size=4, num_workers=2, dataset=dict(data_root='/my photos')
    )
    assert cfg.custom_hooks[0].queue_begin_epoch == 5
    assert cfg.model.head == dict(
        num_prototypes=[30, 40], queue=None, new=None
    )
    assert cfg.load_from == 'w.pth'
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=1)


def test_without_workers_there_are_no_options_of_theirs(path: str) -> None:
    options = [
        'train_dataloader.prefetch_factor=4',
        'train_dataloader.persistent_workers=True',
    ]
    loader = load_config(path, options).train_dataloader
    assert loader.prefetch_factor == 4 and loader.persistent_workers
    loader = load_config(
        path, [*options, 'train_dataloader.num_workers=0']
    ).train_dataloader
    # torch would refuse them.
    torch.utils.data.DataLoader(**{**loader, 'dataset': [1]})


@pytest.mark.parametrize(
    'option, message',
    [
        ('train_dataloader', "KEY=VALUE, but got 'train_dataloader'"),
        (
            'train_dataloder.batch_size=4',
            "unknown key 'train_dataloder'; did you mean 'train_dataloader'",
        ),
        ('optim_wraper.optimizer.lr=1', "did you mean 'optim_wrapper'"),
        ('train_dataloader.num_worker=4', "did you mean 'num_workers'"),
        ('head.num_prototypes=4', "the config has no 'head'"),
        ('custom_hooks.1.priority=LOW', "'custom_hooks' has 1 entries"),
        ('custom_hooks.last.priority=LOW', "there is no 'last'"),
        ('model.head.queue.length=4', "'model.head.queue' is None and has no"),
        (
            'data_root=/mine',
            "'data_root' is a variable that only the config "
            'file reads. Set it where it is used: '
            'train_dataloader.dataset.data_root',
        ),
    ],
)
def test_options_without_a_place(path: str, option: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_config(path, [option])


def test_scope_of_the_config_is_kept(path: str) -> None:
    assert load_config(path).default_scope == 'swav_plugin'
    Path(path).write_text(CONFIG + "default_scope = 'mmdet'")
    assert load_config(path).default_scope == 'mmdet'


def test_config_that_builds_on_the_package(tmp_path: Path) -> None:
    recipe = 'swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96.py'
    config = tmp_path / 'mine.py'
    config.write_text(
        f"_base_ = 'swav_plugin::selfsup/swav/{recipe}'\n"
        'train_cfg = dict(max_epochs=7)\n'
    )
    cfg = load_config(str(config), ['model.head.num_prototypes=300'])
    assert cfg.train_cfg.max_epochs == 7
    assert cfg.model.head.num_prototypes == 300
    assert cfg.default_hooks.checkpoint.max_keep_ckpts == 3


def test_other_files_are_no_configs(tmp_path: Path) -> None:
    weights = tmp_path / 'epoch_3.pth'
    weights.touch()
    with pytest.raises(UsageError, match='epoch_3.pth is no config.* order?'):
        load_config(str(weights))


def test_missing_package_names_the_family(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(path).write_text("_base_ = 'mmrotate::a/x.py'")
    for family, installed in (('onedl', True), ('official', False)):
        monkeypatch.setattr(stack, '_is_distribution', lambda name: installed)
        with pytest.raises(
            UsageError,
            match=(rf"mmrotate.*install -e '.\[{family}-downstream\]'"),
        ):
            load_config(path)


def test_missing_base_names_both_files(path: str) -> None:
    Path(path).write_text("_base_ = 'nowhere.py'")
    with pytest.raises(UsageError, match='config.py builds on .*nowhere.py'):
        load_config(path)
    Path(path).write_text("_base_ = 'mmnowhere::a/x.py'")
    with pytest.raises(UsageError, match='can not be read: .*mmnowhere'):
        load_config(path)


@pytest.mark.parametrize(
    'cfg, message',
    [
        (
            dict(train_dataloder={}),
            "unknown config key 'train_dataloder': did "
            "you mean 'train_dataloader'",
        ),
        (dict(param_schedulers=[]), "did you mean 'param_scheduler'"),
        (
            dict(env_cfg=dict(cudnn_benchmarks=True)),
            "'env_cfg.cudnn_benchmarks': did you mean "
            "'env_cfg.cudnn_benchmark'",
        ),
        (dict(default_hooks=dict(checkpont={})), "'default_hooks.checkpoint'"),
        (
            dict(optim_wrapper=dict(paramwise_cfg=dict(norm_decay_mul=0.0))),
            "'optim_wrapper.paramwise_cfg.norm_decay_mult'",
        ),
        (
            dict(
                default_hooks=dict(
                    checkpoint=dict(type='CheckpointHook', intervall=1)
                )
            ),
            r"CheckpointHook has no \['intervall'\]; it takes .*'interval'",
        ),
    ],
)
def test_misspelt_keys(cfg: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_keys(Config(cfg))


def test_variables_of_a_config_are_its_own_affair() -> None:
    check_keys(
        Config(
            dict(
                dataset_type='ImageFolder',
                view_pipeline1=[],
                train_pipeline=[],
                data_root='data',
                max_epochs=3,
                norm_cfg={},
                test_pipeline=[],
                custom_hooks=None,
                default_hooks=None,
                optim_wrapper=None,
                tta_model={},
                vis_backends=[],
            )
        )
    )


def test_text_with_commas_is_a_list() -> None:
    assert parse_options(['a=1, 2', "b='/my photos'", 'c=(x,y)']) == {
        'a': [1, 2],
        'b': '/my photos',
        'c': ('x', 'y'),
    }


def test_newest_checkpoint(tmp_path: Path) -> None:
    assert find_checkpoint(str(tmp_path)) is None
    assert find_checkpoint(str(tmp_path / 'absent')) is None
    for seconds, name in enumerate(
        ['epoch_10.pth', 'epoch_9.pth', 'best_knn.pth']
    ):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (seconds, seconds))
    newest = str(tmp_path / 'epoch_9.pth')
    assert find_checkpoint(str(tmp_path)) == newest
    note = tmp_path / 'last_checkpoint'
    # mmengine's note counts, also in a folder that was moved ...
    note.write_text('/old/place/epoch_10.pth\n')
    assert find_checkpoint(str(tmp_path)) == str(tmp_path / 'epoch_10.pth')
    # ... but not if it was cut short or names a file that is gone.
    for text in ('', '/old/place/epoch_11.pth'):
        note.write_text(text)
        assert find_checkpoint(str(tmp_path)) == newest


def test_launcher_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, 'get_device', lambda: 'cpu')
    monkeypatch.setenv('RANK', '0')
    cfg = Config(
        dict(
            find_unused_parameters=True,
            model_wrapper_cfg=dict(type='Other', static_graph=True),
        )
    )
    set_launcher(cfg, 'none')
    assert cfg.launcher == 'none' and cfg.model_wrapper_cfg.type == 'Other'
    set_launcher(cfg, 'pytorch')
    assert cfg.model_wrapper_cfg == dict(
        type='swav_plugin.engine.CPUDistributedDataParallel',
        find_unused_parameters=True,
        static_graph=True,
    )
    with pytest.raises(UsageError, match='slurm needs GPUs .*dist_train.sh'):
        set_launcher(cfg, 'slurm')


def test_launcher_without_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('RANK', raising=False)
    with pytest.raises(UsageError, match='use tools/dist_train.sh CONFIG'):
        set_launcher(Config(), 'pytorch')


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, 'get_device', lambda: 'cuda')
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setenv('RANK', '0')
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '2')
    cfg = Config()
    set_launcher(cfg, 'pytorch')
    assert 'model_wrapper_cfg' not in cfg
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '4')
    with pytest.raises(UsageError, match='4 processes .* only 2 GPUs'):
        set_launcher(cfg, 'pytorch')


@pytest.mark.parametrize(
    'device, given, expected, note',
    [
        (
            'cpu',
            {},
            dict(type='swav_plugin.engine.CPUAmpOptimWrapper'),
            'bfloat16 on the CPU',
        ),
        (
            'cpu',
            dict(type='AmpOptimWrapper', dtype='float16', loss_scale=8.0),
            dict(type='swav_plugin.engine.CPUAmpOptimWrapper'),
            'bfloat16 on the CPU',
        ),
        (
            'cuda',
            dict(type='OptimWrapper'),
            dict(type='AmpOptimWrapper', loss_scale='dynamic'),
            'float16, loss_scale dynamic',
        ),
        (
            'cuda',
            dict(type='OptimWrapper', dtype='bfloat16'),
            dict(
                type='AmpOptimWrapper',
                dtype='bfloat16',
                loss_scale=dict(enabled=False),
            ),
            'bfloat16, loss_scale none',
        ),
        (
            'cuda',
            dict(type='AmpOptimWrapper', dtype='bfloat16', loss_scale=8.0),
            dict(type='AmpOptimWrapper', dtype='bfloat16', loss_scale=8.0),
            'bfloat16, loss_scale 8.0',
        ),
    ],
)
def test_mixed_precision(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    given: dict,
    expected: dict,
    note: str,
) -> None:
    monkeypatch.setattr(launch, 'get_device', lambda: device)
    cfg = Config(dict(optim_wrapper=given))
    assert note in set_mixed_precision(cfg)
    assert cfg.optim_wrapper == expected


def test_mixed_precision_of_another_wrapper() -> None:
    cfg = SimpleNamespace(optim_wrapper=dict(type='ApexOptimWrapper'))
    with pytest.raises(UsageError, match="config has 'ApexOptimWrapper'"):
        set_mixed_precision(cfg)


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
    """What is filled in a C4 detector, with a head beside it."""
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
    # Of other classes, or nothing that was pretrained.
    del state['roi_head.bbox_head.weight']
    del state['roi_head.shared_head.norm.weight']
    torch.save({f'module.{key}': value for key, value in state.items()}, path)
    check_load_from(runner)
    torch.save(detector(4).state_dict(), path)
    with pytest.raises(UsageError, match='or has them in another shape'):
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


def test_only_trainings_are_resumed(tmp_path: Path) -> None:
    path = tmp_path / 'epoch_1.pth'
    hook = PretrainedHook('random')
    runner = SimpleNamespace(
        hooks=[hook], work_dir=str(tmp_path), cfg=dict(resume=True)
    )
    check_resume(runner)  # there is nothing yet
    for weights in (
        {'conv1.weight': torch.zeros(1)},
        dict(state_dict={}, meta=dict(epoch=1)),
        dict(optimizer={}, meta=None),
    ):
        torch.save(weights, path)
        with pytest.raises(UsageError, match='weights and no state of a tr'):
            check_resume(runner)
    checkpoint = dict(meta=dict(epoch=1, iter=5), optimizer={})
    hook.origin = dict(name='random', sha256='')
    hook.before_save_checkpoint(None, checkpoint)
    torch.save(checkpoint, path)
    check_resume(runner)
    torch.save({'conv1.weight': torch.zeros(1)}, tmp_path / 'w.pth')
    hook.checkpoint = str(tmp_path / 'w.pth')
    with pytest.raises(ValueError, match='that began with random, not with'):
        check_resume(runner)
    hook.checkpoint = None  # nothing is claimed
    check_resume(runner)


LOADS_MASKS = """
import argparse, sys, time
from torch.utils.data import DataLoader
from swav_plugin.engine.launch import run_command

class Masks:
    def __len__(self):
        return 9

    def __getitem__(self, index):
        return bytes(2**20)

def run(args):
    loader = DataLoader(Masks(), batch_size=None, num_workers=1)
    batches = iter(loader)
    next(batches)
    print(batches._workers[0].pid, flush=True)
    time.sleep(60)

run_command(run, argparse.Namespace(launcher='none'))
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='on Linux only')
def test_workers_end_with_what_is_killed() -> None:
    process = subprocess.Popen(
        [sys.executable, '-c', LOADS_MASKS], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    worker = Path('/proc', process.stdout.readline().strip())
    assert worker.exists()
    process.kill()
    process.wait(60)
    deadline = time.monotonic() + 60
    while worker.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not worker.exists()


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
