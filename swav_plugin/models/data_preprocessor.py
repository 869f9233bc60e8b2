"""MultiViewPreprocessor: batches of uint8 views to normalized floats.

Views that the loader has not cut yet are cut here, on the model's device.
Letters for shapes: V views, B images per rank.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from swav_plugin.datasets.collate import ImageBatch
from swav_plugin.datasets.transforms.device_decode import decode_images
from swav_plugin.datasets.transforms.device_ops import cut_views
from swav_plugin.registry import MODELS


@MODELS.register_module()
class MultiViewPreprocessor(BaseDataPreprocessor):
    """Move views to the device, or cut them there, and normalize them.

    Args:
        mean: Mean of R, G and B in 0..255.
        std: Standard deviation of R, G and B in 0..255. SwAV uses 0.228 * 255
            for red where most others use 0.229 * 255.
        non_blocking: Let copies from pinned memory overlap with other work.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        non_blocking: bool = True,
    ) -> None:
        super().__init__(non_blocking)
        for name, values in (('mean', mean), ('std', std)):
            buffer = torch.tensor([float(x) for x in values]).view(-1, 1, 1)
            self.register_buffer(name, buffer, persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalize `data['inputs']`.

        Args:
            data: 'inputs' is one (B, 3, h, w) RGB tensor, a list of V of
                them, one for each view, or an `ImageBatch` to cut V views
                from; the rest is passed on and stays on its device.
            training: Unused; part of mmengine's interface.

        Raises:
            ValueError: The batch was not collated into such tensors.
        """
        # Leave the labels, which nothing here needs: copying each, from memory
        # that is not pinned, would make the host wait for the device.
        inputs: Any = self.cast_data(data['inputs'])
        if isinstance(inputs, Tensor):
            return {**data, 'inputs': self._normalize(inputs)}
        if isinstance(inputs, ImageBatch):
            inputs = cut_views(decode_images(inputs))
        return {**data, 'inputs': [self._normalize(x) for x in inputs]}

    def _normalize(self, images: Any) -> Tensor:
        """Shift and scale (B, 3, h, w) from 0..255 to about zero mean."""
        if not isinstance(images, Tensor) or images.dim() != 4:
            got = (
                tuple(images.shape)
                if isinstance(images, Tensor)
                else type(images).__name__
            )
            raise ValueError(
                f'MultiViewPreprocessor got a view of {got}; it expects '
                '(B, 3, h, w) tensors. Set '
                "collate_fn=dict(type='collate_views') in the dataloader."
            )
        # The mean is float32, float64 in a double model; so is the result.
        return (images - self.mean) / self.std
