"""CIFAR-10 and CIFAR-100 for pretraining: mmpretrain's, cut in batches."""

from collections.abc import Sequence
from typing import Any

import mmpretrain.datasets

from swav_plugin.registry import DATASETS, build_transforms

from .image_memory import ImageMemory
from .view_batch import BatchesFromMemory


class _InMemory(BatchesFromMemory):
    """Keep the images of an mmpretrain dataset in one block of memory."""

    data_list: list[dict]

    def __init__(
        self, *args: Any, pipeline: Sequence[Any] = (), **kwargs: Any
    ) -> None:
        transforms = build_transforms(pipeline)
        super().__init__(  # type: ignore[call-arg]
            *args, pipeline=transforms, **kwargs
        )

    def filter_data(self) -> list[dict]:
        """Move the images out of the list."""
        self.memory = ImageMemory.of_arrays(
            [info.pop('img') for info in self.data_list]
        )
        for slot, info in enumerate(self.data_list):
            info['slot'] = slot
        return self.data_list

    def prepare_data(self, idx: int) -> Any:
        """Run the pipeline on a copy of an image."""
        info = self.get_data_info(idx)
        assert self.memory is not None
        img = self.memory[info.pop('slot')].copy()
        return self.pipeline(info | dict(img=img, channel_order='rgb'))


@DATASETS.register_module()
class CIFAR10(_InMemory, mmpretrain.datasets.CIFAR10):
    """mmpretrain's CIFAR10, with the batches of `BatchesFromMemory`."""


@DATASETS.register_module()
class CIFAR100(_InMemory, mmpretrain.datasets.CIFAR100):
    """mmpretrain's CIFAR100, with the batches of `BatchesFromMemory`."""
