"""Res5 with one more norm, the shared head of C4 detectors."""

from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from mmpretrain.models.backbones.resnet import ResLayer, ResNet, get_expansion
from torch import Tensor

from swav_plugin.registry import MODELS


@MODELS.register_module()
class ResLayerExtraNorm(BaseModule):
    """Stage 4 of a ResNet for each box, then a norm that is not pretrained.

    A C4 detector feeds boxes of stage 3 through it. With weights that were
    pretrained without labels, the norm keeps what follows in range.

    Args:
        depth: Of the ResNet: 18, 34, 50, 101 or 152.
        norm_cfg: Of all norms; ``SyncBN`` in the protocol.
        base_channels: Width of the ResNet's first stage.

    Source: MoCo (arXiv:1911.05722), appendix on object detection.
    """

    def __init__(
        self, depth: int, norm_cfg: dict, base_channels: int = 64
    ) -> None:
        super().__init__(
            init_cfg=[
                dict(type='Kaiming', layer='Conv2d'),
                dict(
                    type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']
                ),
            ]
        )
        block, num_blocks = ResNet.arch_settings[depth]
        out_channels = base_channels * 8 * get_expansion(block)
        # Named as in the whole network, whose weights it takes.
        self.layer4 = ResLayer(
            block,
            num_blocks[3],
            in_channels=out_channels // 2,
            out_channels=out_channels,
            stride=2,
            norm_cfg=norm_cfg,
        )
        self.norm = build_norm_layer(norm_cfg, out_channels)[1]

    def forward(self, maps: Tensor) -> Tensor:
        """(R, C, H, W) boxes of stage 3 -> (R, 2 C, H / 2, W / 2)."""
        return self.norm(self.layer4(maps))
