"""From command lines to configs, and what is refused on the way."""

from pathlib import Path
from types import SimpleNamespace

import mmengine
import pytest
import torch
import yaml
from mmengine.config import Config

from swav_plugin.compat import stack
from swav_plugin.engine import config
from swav_plugin.engine.config import (
    check_has,
    check_keys,
    load_config,
    parse_options,
    set_mixed_precision,
)
from swav_plugin.engine.errors import UsageError

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
    with pytest.raises(
        UsageError, match='epoch_3.pth is not a config.* order?'
    ):
        load_config(str(weights))


def test_missing_package_names_the_family(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(path).write_text("_base_ = 'mmrotate::a/x.py'")
    for family, installed in (('onedl', True), ('official', False)):
        monkeypatch.setattr(stack, '_is_distribution', lambda name: installed)
        with pytest.raises(
            UsageError,
            match=rf"mmrotate.*pip install .*\[{family}-downstream\]'",
        ):
            load_config(path)


def test_missing_base_names_both_files(path: str) -> None:
    Path(path).write_text("_base_ = 'nowhere.py'")
    with pytest.raises(UsageError, match='config.py builds on .*nowhere.py'):
        load_config(path)
    Path(path).write_text("_base_ = 'mmnowhere::a/x.py'")
    with pytest.raises(UsageError, match='cannot be read: .*mmnowhere'):
        load_config(path)


@pytest.mark.parametrize(
    'name, text',
    [
        ('config.py', 'a = ('),
        ('config.py', 'a = b'),
        ('config.py', 'a = [][1]'),
        ('config.yaml', '- a\n- b\n'),
        ('config.yaml', 'a: &x [*x]\n'),
        ('config.json', '[1]'),
    ],
)
def test_a_file_that_is_no_config_is_one_line(
    tmp_path: Path, name: str, text: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(
        UsageError, match=f'{name} cannot be read: '
    ) as refused:
        load_config(str(path))
    assert '\n' not in str(refused.value)


def test_a_config_has_what_a_command_needs(path: str) -> None:
    cfg = load_config(path)
    check_has(cfg, 'model', 'train_dataloader')
    cfg.model = None
    with pytest.raises(UsageError, match='has no model; this command needs'):
        check_has(cfg, 'train_dataloader', 'model')
    cfg.model = [1]
    with pytest.raises(UsageError, match=r'has model=\[1\]; this command'):
        check_has(cfg, 'model')


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
            dict(default_hooks=dict(skiped_images=dict(type='S'))),
            "did you mean 'default_hooks.skipped_images'",
        ),
        (
            dict(
                default_hooks=dict(
                    swov=dict(queue_begin_epoch=1), swav=dict(type='SwAVHook')
                )
            ),
            'default_hooks.swov has no type: .* name, only default_hooks.swav',
        ),
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
                default_hooks=dict(ema=dict(type='EMAHook'), timer=None),
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
    monkeypatch.setattr(config, 'get_device', lambda: device)
    cfg = Config(dict(optim_wrapper=given))
    assert note in set_mixed_precision(cfg)
    assert cfg.optim_wrapper == expected


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_mixed_precision_of_unknown_dtype(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr(config, 'get_device', lambda: device)
    cfg = Config(dict(optim_wrapper=dict(dtype='bfloat8')))
    with pytest.raises(UsageError, match="dtype='bfloat8' is none of None, f"):
        set_mixed_precision(cfg)


def test_mixed_precision_of_another_wrapper() -> None:
    cfg = SimpleNamespace(optim_wrapper=dict(type='ApexOptimWrapper'))
    with pytest.raises(UsageError, match="config has 'ApexOptimWrapper'"):
        set_mixed_precision(cfg)


def test_yaml_is_read_as_data(tmp_path: Path) -> None:
    """mmengine's own loader would run what it names."""
    path, trace = tmp_path / 'c.yml', tmp_path / 'trace'
    path.write_text(
        'log_level: INFO\nrandomness: {seed: 3}\n'
        'work_dir: !!python/tuple [1, [2]]\n'
    )
    cfg = load_config(str(path))
    assert cfg.randomness.seed == 3 and cfg.work_dir == (1, [2])
    (tmp_path / 'd.json').write_text('{"_base_": "c.yml"}')
    (tmp_path / 'd.py').write_text("_base_ = 'c.yml'")
    for text in (
        f'seed: !!python/object/apply:os.mkdir ["{trace}"]',
        f'seed: !!python/object/new:os.system ["mkdir {trace}"]',
        'seed: !!python/name:os.mkdir ""',
    ):
        path.write_text(text)
        for name in ('c.yml', 'd.json', 'd.py'):
            with pytest.raises(UsageError, match='not YAML of plain val') as e:
                load_config(str(tmp_path / name))
            assert str(e.value).isprintable()
        with pytest.raises(yaml.YAMLError):
            mmengine.load(path)
    assert not trace.exists()


@pytest.mark.parametrize('name', ['c.yml', 'c.json'])
def test_text_that_is_neither_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{a: [1, 2}\n"')
    with pytest.raises(UsageError) as caught:
        load_config(str(tmp_path / name))
    assert str(caught.value).isprintable()
