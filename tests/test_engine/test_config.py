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
from swav_plugin.engine.default_hooks import OUR_HOOKS
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
            match=(rf"mmrotate.*install -e '.\[{family}-downstream\]'"),
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


def write_recipe(tmp_path: Path, more: str) -> str:
    """A user's config that inherits a recipe: 5005 frozen steps, epoch 15."""
    recipe = 'swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96.py'
    path = tmp_path / 'mine.py'
    path.write_text(f"_base_ = 'swav_plugin::selfsup/swav/{recipe}'\n{more}")
    return str(path)


OLD_HOOK = "dict(type='SwAVHook', freeze_prototypes_iters=7)"
OLD_SKIPPED = "dict(type='swav_plugin.engine.SkippedImagesHook')"


@pytest.mark.parametrize(
    'custom_hooks, left, note',
    [
        # Version 0.1: the list was all of our hooks.
        (f'{OLD_HOOK}, {OLD_SKIPPED}', [], '(turned off: none)'),
        (OLD_HOOK, [], '(turned off: SkippedImagesHook)'),
        (OLD_SKIPPED, [], '(turned off: SwAVHook)'),
    ],
)
def test_custom_hooks_of_version_0_1_replace_the_default_ones(
    tmp_path: Path, custom_hooks: str, left: list[str], note: str
) -> None:
    path = write_recipe(tmp_path, f'custom_hooks = [{custom_hooks}]')
    notes: list[str] = []
    cfg = load_config(path, notes=notes)
    ours = [name for name in cfg.default_hooks if name in OUR_HOOKS]
    assert ours == left
    assert 'checkpoint' in cfg.default_hooks
    assert cfg.custom_hooks == Config.fromfile(path).custom_hooks
    (line,) = notes
    assert note in line and '\n' not in line
    assert 'replaces swav, skipped_images of default_hooks' in line


@pytest.mark.parametrize('custom_hooks', ["[dict(type='EMAHook')]", [], None])
def test_custom_hooks_without_ours_say_that_ours_stay_on(
    tmp_path: Path, custom_hooks: object
) -> None:
    path = write_recipe(tmp_path, f'custom_hooks = {custom_hooks}')
    notes: list[str] = []
    cfg = load_config(path, notes=notes)
    assert {'swav', 'skipped_images'} <= {*cfg.default_hooks}
    (line,) = notes
    assert 'none of SkippedImagesHook, SwAVHook, which therefore stay' in line
    # What it says to add does turn them off.
    advice = 'default_hooks=dict(swav=None, skipped_images=None)'
    assert advice in line
    Path(path).write_text(f'{Path(path).read_text()}\n{advice}')
    notes.clear()
    assert not {*load_config(path, notes=notes).default_hooks} & {*OUR_HOOKS}
    assert notes == []


def test_hooks_that_a_deleted_base_had_are_told(tmp_path: Path) -> None:
    more = (
        "default_hooks = dict(_delete_=True, timer=dict(type='IterTimerHook'))"
    )
    path = write_recipe(tmp_path, more)
    # At any distance.
    further = tmp_path / 'further.py'
    further.write_text("_base_ = 'mine.py'\ntrain_cfg = dict(max_epochs=3)")
    for each in (path, str(further)):
        notes: list[str] = []
        cfg = load_config(each, notes=notes)
        assert not {*cfg.default_hooks} & {*OUR_HOOKS}
        (line,) = notes
        assert 'turns off SwAVHook, SkippedImagesHook of the configs' in line
        _, _, advice = line.partition('to keep them add ')
        whole = tmp_path / 'whole.py'
        whole.write_text(f"_base_ = '{each}'\n{advice.rstrip('.')}")
        notes.clear()
        hooks = load_config(str(whole), notes=notes).default_hooks
        assert hooks.swav.freeze_prototypes_iters == 5005 and notes == []
    # Turned off on purpose, or replaced by a list of version 0.1.
    for more in (
        'default_hooks = dict(_delete_=True, swav=None, skipped_images=None)',
        f'default_hooks = dict(_delete_=True)\ncustom_hooks = [{OLD_HOOK}]',
        'model = dict(neck=dict(_delete_=True, type="SwAVNeck"))',
    ):
        notes = []
        load_config(write_recipe(tmp_path, more), notes=notes)
        assert notes == []


def test_errors_name_the_hooks_of_the_config(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, f'custom_hooks = [{OLD_HOOK}]')
    for option in (
        'default_hooks.swav.queue_begin_epoch=5',
        'custom_hooks.1.num_names=9',
    ):
        with pytest.raises(UsageError) as caught:
            load_config(path, [option])
        text = str(caught.value)
        assert 'custom_hooks.0 (SwAVHook)' in text and '\n' not in text
        # Why the hook is not there.
        assert 'replaces swav, skipped_images of default_hooks' in text
    Path(path).write_text(
        "_base_ = 'swav_plugin::benchmarks/classification/imagenet/"
        "resnet50_linear-8xb32-coslr-100e_in1k.py'"
    )
    with pytest.raises(UsageError) as caught:
        load_config(path, ['custom_hooks.1.num_names=9'])
    assert 'default_hooks.pretrained' in str(caught.value)
    assert 'swav' not in str(caught.value)


def test_a_recipe_changes_one_argument_of_a_hook(tmp_path: Path) -> None:
    path = write_recipe(
        tmp_path, 'default_hooks = dict(swav=dict(queue_begin_epoch=3))'
    )
    assert load_config(path).default_hooks.swav == dict(
        type='SwAVHook',
        freeze_prototypes_iters=5005,
        queue_begin_epoch=3,
        _scope_='swav_plugin',  # by mmengine
    )


def test_none_turns_a_hook_off(tmp_path: Path) -> None:
    path = write_recipe(
        tmp_path, 'default_hooks = dict(swav=None, timer=None)'
    )
    hooks = load_config(path).default_hooks
    # mmengine turns its own off, and asserts that others are not None.
    assert 'swav' not in hooks and hooks.timer is None
    assert 'skipped_images' in hooks


def test_options_of_version_0_1_find_the_hook(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, '')
    notes: list[str] = []
    cfg = load_config(path, ['custom_hooks.0.queue_begin_epoch=5'], notes)
    assert cfg.default_hooks.swav.queue_begin_epoch == 5
    assert 'custom_hooks' not in cfg
    (note,) = notes
    assert 'is now default_hooks.swav.queue_begin_epoch' in note
    with pytest.raises(UsageError, match='no custom_hooks; set a hook by its'):
        load_config(path, ['custom_hooks.1.num_names=9'])
    # What a config of the user's has there is meant as it is.
    path = write_recipe(tmp_path, f'custom_hooks = [{OLD_HOOK}]')
    cfg = load_config(path, ['custom_hooks.0.queue_begin_epoch=5'])
    assert cfg.custom_hooks[0].queue_begin_epoch == 5
    with pytest.raises(UsageError, match='default_hooks.swav has no type'):
        load_config(path, ['default_hooks.swav.queue_begin_epoch=5'])


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
