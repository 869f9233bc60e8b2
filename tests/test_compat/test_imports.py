"""Tests of what is changed in modules as they are imported."""

import subprocess
import sys

import pytest

pytest.importorskip('mmdet')

SCRIPT = """
import sys
import swav_plugin
import swav_plugin.engine, swav_plugin.models

assert not [name for name in sys.modules if name.startswith('mmdet')]
import mmpretrain.models
assert mmpretrain.models.ResLayerExtraNorm is None

from mmdet.registry import MODELS
import mmdet.models
layer = MODELS.get('ResLayerExtraNorm')
assert layer.__module__ == 'mmpretrain.models.utils.res_layer_extra_norm'
assert layer is mmpretrain.models.ResLayerExtraNorm
assert layer is mmpretrain.models.utils.ResLayerExtraNorm
norm_cfg = dict(type='BN')
layer(depth=18, stage=3, stride=2, norm_cfg=norm_cfg)
"""


def test_mmdet_is_imported_for_detectors_only() -> None:
    subprocess.run([sys.executable, '-c', SCRIPT], check=True)


def test_mmpretrain_after_mmdet_has_its_layer() -> None:
    script = (
        'import swav_plugin, mmdet.models, mmpretrain.models\n'
        'assert mmpretrain.models.ResLayerExtraNorm.__name__'
    )
    subprocess.run([sys.executable, '-c', script], check=True)
