"""Pure-Python twins of the bases, and configs that inherit from them."""

from pathlib import Path

import pytest
from mmengine.config import Config

from swav_plugin.engine.config import load_config
from tests.conftest import REPO_ROOT

OLD = REPO_ROOT / 'configs/selfsup/_base_'
NEW = REPO_ROOT / 'swav_plugin/configs/_base_'
BASES = sorted(OLD.rglob('*.py'))

MINE = """
from mmengine.config import read_base

from swav_plugin.engine import LARS
from swav_plugin.models import SwAVHead

with read_base():
    from swav_plugin.configs._base_.datasets.imagenette_knn import *
    from swav_plugin.configs._base_.datasets.imagenette_mcrop_2_6 import *
    from swav_plugin.configs._base_.default_runtime import *
    from swav_plugin.configs._base_.models.swav_resnet18 import *
    from swav_plugin.configs._base_.schedules.adam_coslr_bs256 import *

model.update(dict(head=dict(num_prototypes=500)))
optim_wrapper.optimizer = dict(type=LARS, lr=0.3)
default_hooks.update(dict(swav=dict(queue_begin_epoch=2)))
"""
CHANGES = """
model = dict(head=dict(num_prototypes=500))
optim_wrapper = dict(optimizer=dict(_delete_=True, type='LARS', lr=0.3))
default_hooks = dict(swav=dict(queue_begin_epoch=2))
"""


def twin(path: Path) -> Path:
    name = path.relative_to(OLD)
    return NEW / name.with_name(name.name.replace('-', '_'))


def test_every_base_has_a_twin() -> None:
    assert sorted(map(twin, BASES)) == sorted(NEW.rglob('*.py'))


@pytest.mark.parametrize('path', BASES, ids=lambda path: path.stem)
def test_both_give_the_same_dict(path: Path) -> None:
    new = load_config(str(twin(path))).to_dict()
    assert new == load_config(str(path)).to_dict()

    # The same words too: what is said of a number is said in both.
    def comments(file: Path) -> list[str]:
        return [
            line.partition('# ')[2]
            for line in file.read_text().splitlines()
            if '# ' in line
        ]

    assert comments(twin(path)) == comments(path)


def test_a_config_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / 'new.py').write_text(MINE)
    bases = [
        str(OLD / f'{name}.py')
        for name in (
            'datasets/imagenette_knn',
            'datasets/imagenette_mcrop-2-6',
            'default_runtime',
            'models/swav_resnet18',
            'schedules/adam_coslr_bs256',
        )
    ]
    (tmp_path / 'old.py').write_text(f'_base_ = {bases}\n{CHANGES}')
    new = load_config(str(tmp_path / 'new.py'))
    assert new.to_dict() == load_config(str(tmp_path / 'old.py')).to_dict()
    # What the work dir and checkpoints hold is in the old style.
    new.dump(tmp_path / 'dumped.py')
    assert Config.fromfile(tmp_path / 'dumped.py').to_dict() == new.to_dict()


def test_a_class_of_another_library_keeps_its_module(tmp_path: Path) -> None:
    (tmp_path / 'mine.py').write_text(
        'from mmpretrain.models import ResNet\n'
        "default_scope = 'mmpretrain'\n"
        'model = dict(type=ResNet, depth=18)\n'
    )
    cfg = load_config(str(tmp_path / 'mine.py'))
    # A short name might be another class in a scope that is not ours.
    assert cfg.model == dict(type='mmpretrain.models.ResNet', depth=18)
