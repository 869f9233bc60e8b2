"""SwAVNeck: features to embeddings, vectors of unit norm.

Letters for shapes: C channels of the backbone, D embedding size, N any
images.
"""

from typing import Any

import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from swav_plugin.registry import MODELS

from .feature_pooling import UnfitOutput, describe_output, pool_output
from .swav_loss import at_least_float32


@MODELS.register_module()
class SwAVNeck(BaseModule):
    """Average over space, project with an MLP, scale to unit norm.

    Args:
        in_channels: C.
        hid_channels: Width of the hidden layer; 0 for a single linear layer.
        out_channels: D.
        norm_cfg: Norm after the hidden layer; None for no norm.
        init_cfg: As in mmengine. Without it layers keep torch's default
            initialization, as upstream's do.

    Source: SwAV (arXiv:2006.09882), Appendix B.
    """

    def __init__(
        self,
        in_channels: int,
        hid_channels: int = 2048,
        out_channels: int = 128,
        norm_cfg: dict | None = dict(type='BN1d'),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels = in_channels
        self.out_channels = out_channels
        layers: list[nn.Module] = []
        if hid_channels:
            layers.append(nn.Linear(in_channels, hid_channels))
            if norm_cfg is not None:
                layers.append(build_norm_layer(norm_cfg, hid_channels)[1])
            layers.append(nn.ReLU(inplace=True))
        layers.append(nn.Linear(hid_channels or in_channels, out_channels))
        self.projection = nn.Sequential(*layers)

    def pool(self, features: Any) -> Tensor:
        """Reduce the output of a backbone to a vector for each image.

        Args:
            features: The output of a backbone, as for `pool_output`.

        Returns:
            (N, C).

        Raises:
            UnfitOutput: The output cannot be pooled, or C is not
                `in_channels`.
        """
        pooled = pool_output(features)
        if pooled.shape[1] != self.in_channels:
            raise UnfitOutput(
                f'the backbone gave {describe_output(features)}, but SwAVNeck '
                f'expects (N, {self.in_channels}, h, w) or '
                f'(N, {self.in_channels}); set neck.in_channels='
                f'{pooled.shape[1]}, the channels of the backbone.'
            )
        return pooled

    def forward(self, pooled: Tensor) -> Tensor:
        """Embed pooled features: (N, C) -> (N, D), float32 or float64."""
        # Half precision would leave norms of 1 +- 1e-3.
        return F.normalize(at_least_float32(self.projection(pooled)), dim=1)
