"""LinearProbe: frozen backbone -> pooled features -> linear classifiers.

Letters for shapes: N images, C channels of a feature, Y classes, P classifiers
(probes).
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmpretrain.structures import DataSample
from torch import Tensor

from swav_plugin.registry import MODELS

from .feature_pooling import (
    GRIDS,
    check_features,
    check_windows,
    pick_feature,
)
from .memory_layout import memory_layout


@MODELS.register_module()
class LinearProbe(BaseModel):
    """Train linear classifiers on the features of a frozen backbone.

    The backbone is always in eval mode and has no gradients: its weights and
    statistics stay bit for bit as they are. It runs once for each image, for
    any number of features and learning rates.

    Args:
        backbone: Config of a backbone; 'feature1' to 'feature5' need a
            `ResNetWithStem`.
        head: Config of a `MultiLinearHead`, without `shapes`.
        features: 'feature1' to 'feature5', or 'avgpool', the mean of the last
            feature map.
        windows: 'mmselfsup' for its pooling of feature1 to feature5, which
            needs images of 224 px; 'adaptive' for the same number of windows
            on images of any size.
        data_preprocessor: Config of a `MultiViewPreprocessor`.
        init_cfg: As in mmengine.

    Raises:
        ValueError: The backbone does not have a feature.
    """

    def __init__(
        self,
        backbone: dict,
        head: dict,
        features: Sequence[str],
        windows: str = 'mmselfsup',
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        # Built here, because mmengine would look in its own registry alone.
        if data_preprocessor is not None:
            data_preprocessor = MODELS.build(data_preprocessor)
        super().__init__(data_preprocessor, init_cfg)
        if not features or len(set(features)) < len(features):
            raise ValueError(
                f'LinearProbe got features={features}; give one or more, each '
                "once, e.g. ['feature4', 'feature5', 'avgpool']."
            )
        self.features = list(features)
        self.windows = check_windows(windows)
        self.backbone = MODELS.build(backbone).requires_grad_(False)
        check_features(self.backbone, features)
        self.train()
        shapes = {
            name: tuple(rows.shape[1:])
            for name, rows in self.extract_feat(
                torch.zeros(1, 3, 224, 224)
            ).items()
        }
        self.head = MODELS.build({'shapes': shapes, **head})

    def train(self, mode: bool = True) -> 'LinearProbe':
        """Set the mode of the head; the backbone stays in eval mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(
        self,
        inputs: Tensor,
        data_samples: list[DataSample] | None = None,
        mode: str = 'tensor',
    ) -> dict[str, Tensor] | list[DataSample] | Tensor:
        """Run one of the model's three uses.

        Args:
            inputs: (N, 3, h, w), normalized.
            data_samples: With `gt_label` for 'loss'; filled in by 'predict'.
            mode: 'loss' for training, 'tensor' for scores, (N, P, Y),
                'predict' for scores in data samples.

        Raises:
            ValueError: The mode is unknown or there are several views.
        """
        if not isinstance(inputs, Tensor):
            raise ValueError(
                'LinearProbe got several views of each image; leave MultiView '
                'and MultiCrop out of the pipeline.'
            )
        features = self.extract_feat(inputs)
        if mode == 'loss':
            assert data_samples is not None
            return self.head.loss(features, _labels(data_samples, inputs))
        if mode == 'tensor':
            return self.head(features)
        if mode == 'predict':
            return self._predict(features, data_samples)
        raise ValueError(
            f"got mode='{mode}'; use 'loss', 'tensor' or 'predict'."
        )

    @torch.no_grad()
    def extract_feat(self, images: Tensor) -> dict[str, Tensor]:
        """Pool the features of (N, 3, h, w) images: (N, C, windows) each."""
        layout = memory_layout(images.device)
        outputs = self.backbone(images.contiguous(memory_format=layout))
        return {
            name: pick_feature(
                self.backbone, outputs, name, self.windows
            ).unflatten(1, (-1, GRIDS.get(name, 1) ** 2))
            for name in self.features
        }

    def _apply(self, *args: Any, **kwargs: Any) -> 'LinearProbe':
        """Move or convert the model; its layout follows the device."""
        super()._apply(*args, **kwargs)
        device = next(self.backbone.parameters()).device
        self.backbone.to(memory_format=memory_layout(device))
        return self

    def _predict(
        self, features: dict[str, Tensor], data_samples: Any
    ) -> list[DataSample]:
        """Set `scores`, (P, Y), and `probes`, the P names, of each image."""
        scores = self.head(features)
        if data_samples is None:
            data_samples = [DataSample() for _ in scores]
        for sample, each in zip(data_samples, scores):
            sample.set_field(each, 'scores')
            sample.set_field(self.head.probes, 'probes', field_type='metainfo')
        return data_samples


def _labels(data_samples: list[DataSample], inputs: Tensor) -> Tensor:
    """Return the labels of a batch, (N,), on the device of its images."""
    labels = torch.cat([sample.gt_label for sample in data_samples])
    if inputs.is_cuda:
        # Copying from pageable memory makes the host wait for the device.
        labels = labels.pin_memory()
    return labels.to(inputs.device, non_blocking=True)
