"""ResLayerExtraNorm: the shared head of C4 detectors.

Letters for shapes: N boxes, C channels of stage 3, h x w pixels of a box.
"""

from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from mmpretrain.models.backbones.resnet import ResLayer, ResNet, get_expansion
from torch import Tensor

from swav_plugin.registry import MODELS


@MODELS.register_module()
class ResLayerExtraNorm(BaseModule):
    """Run the last stage of a ResNet on each box, then one more norm.

    A C4 detector feeds it boxes of the maps of stage 3. With weights that were
    pretrained without labels, the extra norm, which is not pretrained, keeps
    its output in range.

    Args:
        depth: Depth of the ResNet: 18, 34, 50, 101 or 152.
        norm_cfg: Config of all norms; ``SyncBN`` in the protocol.
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
        # Named as in the whole network, so that its weights load.
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
        """Run on boxes of stage 3: (N, C, h, w) -> (N, 2 C, h / 2, w / 2)."""
        return self.norm(self.layer4(maps))
