"""Res5 of C4 detectors against the last stage of mmpretrain's ResNet."""

import pytest
import torch
from mmpretrain.models import ResNet
from torch import nn

from swav_plugin.models import ResLayerExtraNorm
from swav_plugin.registry import MODELS


@pytest.mark.parametrize('depth', [18, 50])
def test_is_the_last_stage_and_a_norm(depth: int) -> None:
    torch.manual_seed(0)
    backbone = ResNet(depth, base_channels=8, stem_channels=8)
    backbone.init_weights()
    backbone.double()
    head = MODELS.build(
        dict(
            type='swav_plugin.ResLayerExtraNorm',
            depth=depth,
            base_channels=8,
            norm_cfg=dict(type='BN'),
        )
    ).double()
    stage = {
        f'layer4.{key}': value
        for key, value in backbone.layer4.state_dict().items()
    }
    missing, unexpected = head.load_state_dict(stage, strict=False)
    assert not unexpected
    # torch counts num_batches_tracked as there.
    assert missing == [
        f'norm.{name}'
        for name in ('weight', 'bias', 'running_mean', 'running_var')
    ]
    channels = 64 if depth == 18 else 256
    maps = torch.randn(5, channels // 2, 14, 14).double()
    found = head(maps)
    expected = nn.BatchNorm2d(channels).double()(backbone.layer4(maps))
    assert found.shape == (5, channels, 7, 7)
    torch.testing.assert_close(found, expected)
    # Its own norm learns from boxes, too.
    assert head.norm.running_mean.abs().sum() > 0


def test_initialized_as_mmdets_shared_head() -> None:
    torch.manual_seed(0)
    head = ResLayerExtraNorm(50, dict(type='BN'), base_channels=16)
    head.init_weights()
    weight = head.layer4[1].conv2.weight  # 128 x 128 x 3 x 3
    # Kaiming's for what goes out: sqrt(2 / (128 * 9)).
    assert weight.std().item() == pytest.approx((2 / 1152) ** 0.5, rel=0.02)
    assert (head.norm.weight == 1).all() and (head.norm.bias == 0).all()


def test_names_sync_bn() -> None:
    head = ResLayerExtraNorm(50, dict(type='SyncBN'), base_channels=8)
    norms = [
        m
        for m in head.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm)
    ]
    assert len(norms) == 11
    assert all(isinstance(m, nn.SyncBatchNorm) for m in norms)
