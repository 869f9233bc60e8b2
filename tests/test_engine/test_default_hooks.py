"""Our hooks in configs: by name, and in lists of version 0.1."""

from pathlib import Path

import pytest
from mmengine.config import Config

from swav_plugin.engine.config import load_config
from swav_plugin.engine.default_hooks import OUR_HOOKS
from swav_plugin.engine.errors import UsageError


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
