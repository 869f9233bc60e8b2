"""SwAV: views -> backbone -> neck -> head. Start reading here.

Letters for shapes: V views, B images per rank, C channels of the backbone,
D embedding size, K prototypes, N any images.
"""

from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.utils import digit_version
from mmpretrain.structures import DataSample
from torch import Tensor

from swav_plugin.checkpoints.keys import convert_state_dict
from swav_plugin.registry import MODELS

from .memory_layout import memory_layout

Views = Tensor | list[Tensor]


def _rename_weights(weights: dict, prefix: str, *_: Any) -> None:
    """Rename the weights of a known layout, in place, before they are loaded.

    mmengine loads what it finds and only warns of the rest, so without this
    its `load_checkpoint` would leave a network random.

    Raises:
        ValueError: They are of something else.
    """
    if prefix:  # a part of a larger model, which has its own names
        return
    converted = convert_state_dict(weights)
    if not any(key.startswith('backbone.') for key in converted):
        raise ValueError(
            'a SwAV got weights without those of a backbone, such as '
            f'{", ".join(list(weights)[:3])}; give a checkpoint of a SwAV.'
        )
    weights.clear()
    weights.update(converted)


@MODELS.register_module()
class SwAV(BaseModel):
    """Learn features without labels by swapping cluster assignments.

    Args:
        backbone: Config of any mmpretrain backbone whose output can be pooled.
        neck: Config of the neck, a `SwAVNeck`.
        head: Config of the head, a `SwAVHead`, without `feat_dim`.
        data_preprocessor: Config of a `MultiViewPreprocessor`.
        compile: Options of `torch.compile` for backbone and neck, e.g.
            `dict()`; None for no compilation. Needs torch >= 2.3.
        channels_last: On a GPU, lay out the backbone's weights and images
            with the channels innermost, as tensor cores read them. No effect
            on a CPU.
        init_cfg: As in mmengine.

    Source: SwAV (arXiv:2006.09882).
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        data_preprocessor: dict | None = None,
        compile: dict | None = None,
        channels_last: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        # Built here, because mmengine would look in its own registry alone.
        if data_preprocessor is not None:
            data_preprocessor = MODELS.build(data_preprocessor)
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = MODELS.build(backbone)
        self.neck = MODELS.build(neck)
        self.head = MODELS.build({'feat_dim': self.neck.out_channels, **head})
        self.channels_last = channels_last
        if compile is not None:
            # With dynamo in use, torch 2.1 no longer calls the optimizer's
            # hooks, so prototypes would not be frozen.
            if digit_version(torch.__version__) < digit_version('2.3'):
                raise ValueError(
                    'model.compile needs torch >= 2.3 but this is '
                    f'{torch.__version__}; update torch or leave it out.'
                )
            # A graph for each of two view sizes is faster than one for both.
            options = {'dynamic': False, **compile}
            self.backbone.compile(**options)
            self.neck.compile(**options)
        self._register_load_state_dict_pre_hook(_rename_weights)

    def forward(
        self,
        inputs: Views,
        data_samples: list[DataSample] | None = None,
        mode: str = 'tensor',
    ) -> dict[str, Tensor] | list[DataSample] | Tensor:
        """Run one of the model's three uses.

        Args:
            inputs: One normalized (B, 3, h, w) tensor for each view. 'tensor'
                and 'predict' use the first, and also take a single tensor.
            data_samples: One for each image, filled in by 'predict'.
            mode: 'loss' for training, 'tensor' for features, 'predict' for
                the nearest prototype of each image.

        Raises:
            ValueError: The mode is unknown or 'loss' gets a single view.
        """
        if mode == 'loss':
            return self.loss(inputs)
        view = inputs if isinstance(inputs, Tensor) else inputs[0]
        if mode == 'tensor':
            return self.extract_feat(view)
        if mode == 'predict':
            return self.predict(view, data_samples)
        raise ValueError(
            f"got mode='{mode}'; use 'loss', 'tensor' or 'predict'."
        )

    def loss(self, views: Views) -> dict[str, Tensor]:
        """Compute the loss of one batch of V views."""
        if isinstance(views, Tensor) or len(views) < 2:
            raise ValueError(
                'SwAV learns from at least two views of each image but got '
                'one; use MultiView in the pipeline of train_dataloader.'
            )
        features = self._extract_views(views)  # (V * B, C)
        embeddings = self.neck(features).unflatten(0, (len(views), -1))
        statistics = getattr(self.head, 'statistics', None)
        if statistics is not None:
            statistics.add_views(*views[:2])
        return {'loss': self.head.loss(embeddings)}

    def extract_feat(self, images: Tensor) -> Tensor:
        """Run the backbone and pool: (N, 3, h, w) -> (N, C)."""
        layout = memory_layout(images.device, self.channels_last)
        images = images.contiguous(memory_format=layout)
        return self.neck.pool(self.backbone(images))

    @torch.no_grad()
    def predict(
        self,
        images: Tensor,
        data_samples: list[DataSample] | None = None,
    ) -> list[DataSample]:
        """Find the nearest prototype of each of (N, 3, h, w) images.

        `pred_label` is its index in the first set of prototypes and
        `pred_score` (K,) the prediction that training compares with codes.
        """
        probabilities = self.head.predict(self.neck(self.extract_feat(images)))
        if data_samples is None:
            data_samples = [DataSample() for _ in images]
        return [
            sample.set_pred_score(prob).set_pred_label(prob.argmax())
            for sample, prob in zip(data_samples, probabilities)
        ]

    def _extract_views(self, views: list[Tensor]) -> Tensor:
        """Extract features of all views, view by view: (V * B, C).

        Views of one size share one pass through the backbone, so batch norm
        sees all crops of that size together, as in upstream.
        """
        features: dict[int, Tensor] = {}
        for shape in dict.fromkeys(view.shape for view in views):
            same = [i for i, view in enumerate(views) if view.shape == shape]
            rows = self.extract_feat(torch.cat([views[i] for i in same]))
            features.update(zip(same, rows.chunk(len(same))))
        return torch.cat([features[i] for i in range(len(views))])

    def _apply(self, *args: Any, **kwargs: Any) -> 'SwAV':
        """Move or convert the model; its layout follows the device."""
        super()._apply(*args, **kwargs)
        device = next(self.backbone.parameters()).device
        layout = memory_layout(device, self.channels_last)
        self.backbone.to(memory_format=layout)
        return self
