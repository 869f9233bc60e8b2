"""Tests of where names in a config are looked up."""

import logging
from typing import Any

import mmengine.registry
import mmpretrain.registry
import pytest
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope, Registry
from torch import nn

from swav_plugin import registry

ROOTS = [
    value
    for value in vars(mmengine.registry).values()
    if isinstance(value, Registry)
]
# Built by hand, never through a scope.
UNSCOPED = {'inferencer'}


@pytest.mark.parametrize('root', ROOTS, ids=[root.name for root in ROOTS])
def test_every_root_registry_finds_our_scope(
    root: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a child, mmengine logs "Failed to search registry"."""
    if root.name in UNSCOPED:
        return
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        with (
            caplog.at_level(logging.WARNING, logger=logger.name),
            root.switch_scope_and_registry('swav_plugin') as found,
        ):
            assert found.scope == 'swav_plugin'
            found.get('NoSuchName')  # imports the locations
    finally:
        logger.removeHandler(caplog.handler)
    assert not [
        record.getMessage()
        for record in caplog.records
        if 'registry' in record.getMessage()
        or 'not installed' in record.getMessage()
    ]


@pytest.mark.parametrize(
    'name, key, owner',
    [
        ('METRICS', 'Accuracy', 'mmpretrain.evaluation'),
        ('METRICS', 'KNN', 'swav_plugin.evaluation'),
        ('METRICS', 'DumpResults', 'mmengine.evaluator'),
        ('MODELS', 'ResNet', 'mmpretrain.models'),
        ('MODELS', 'SwAV', 'swav_plugin.models'),
        ('MODELS', 'SwAVNeck', 'swav_plugin.models'),
        ('TRANSFORMS', 'MultiView', 'swav_plugin.datasets'),
        ('TRANSFORMS', 'ResizeEdge', 'mmpretrain.datasets'),
        ('HOOKS', 'SwAVHook', 'swav_plugin.engine'),
        ('HOOKS', 'CheckpointHook', 'swav_plugin.engine'),
        ('HOOKS', 'LoggerHook', 'mmengine.hooks'),
        ('OPTIMIZERS', 'LARS', 'swav_plugin.engine'),
        ('OPTIMIZERS', 'SGD', 'torch.optim'),
        ('DATA_SAMPLERS', 'DefaultSampler', 'mmengine.dataset'),
        ('LOOPS', 'EpochBasedTrainLoop', 'mmengine.runner'),
        ('LOOPS', 'FeatureEvalLoop', 'swav_plugin.evaluation'),
    ],
)
def test_names_are_ours_then_mmpretrains_then_mmengines(
    name: str, key: str, owner: str
) -> None:
    root = getattr(mmengine.registry, name)
    with root.switch_scope_and_registry('swav_plugin') as found:
        cls: Any = found.get(key)
    assert cls.__module__.startswith(owner)


def test_other_scopes_reach_ours() -> None:
    child = mmpretrain.registry.MODELS.get('swav_plugin.SwAVHead')
    assert child is registry.MODELS.get('SwAVHead')
    assert child is not mmpretrain.registry.MODELS.get('SwAVHead')


def test_build_with_default_scope() -> None:
    """A config says `default_scope='swav_plugin'` and `type='ResNet'`."""
    with DefaultScope.overwrite_default_scope('swav_plugin'):
        model = mmengine.registry.MODELS.build(dict(type='ResNet', depth=18))
    assert isinstance(model, nn.Module)
    assert type(model).__module__ == 'mmpretrain.models.backbones.resnet'


@pytest.mark.parametrize('package', [mmengine.registry, mmpretrain.registry])
def test_a_name_with_our_scope_is_found_from_other_packages(
    package: Any,
) -> None:
    from swav_plugin.models import SwAV

    assert package.MODELS.get('swav_plugin.SwAV') is SwAV
