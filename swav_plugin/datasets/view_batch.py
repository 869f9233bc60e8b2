"""Batches of images in memory, cut at once. B: images, V: views.

For images of 32 pixels, cutting the views takes less time than going through
a pipeline image by image. torch's fetcher asks a dataset that has
`__getitems__` for a whole batch.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from mmpretrain.structures import DataSample
from torch import Tensor

from swav_plugin.compat import jit

from .image_memory import ImageMemory
from .sampler import SampleKey
from .transforms.formatting import PackViews, make_data_sample
from .transforms.loading import LoadImage
from .transforms.multi_crop import MultiCrop


class LazyDataSamples:
    """B data samples, each made when it is asked for.

    SwAV trains without them. Not a Sequence: `cast_data` and pinning, which
    would make them all, leave it as it is.

    Args:
        results: What `PackViews` would make each from.
    """

    def __init__(self, results: list[dict]) -> None:
        self._results = results

    def __len__(self) -> int:
        return len(self._results)

    def __getitem__(self, index: int) -> DataSample:
        return make_data_sample(self._results[index])

    def __iter__(self) -> Iterator[DataSample]:
        return map(make_data_sample, self._results)

    @property
    def skipped(self) -> list[str]:
        """The unreadable files that images replace, 'path: reason' each."""
        return []


class ViewBatch(Sequence):
    """B samples as `PackViews` gives them, collated already.

    Args:
        inputs: V tensors (B, 3, size, size).
        data_samples: B of them.
    """

    def __init__(
        self, inputs: list[Tensor], data_samples: LazyDataSamples
    ) -> None:
        self.inputs = inputs
        self.data_samples = data_samples

    def __len__(self) -> int:
        return len(self.data_samples)

    def __getitem__(self, index: Any) -> Any:
        return dict(
            inputs=[views[index] for views in self.inputs],
            data_samples=self.data_samples[index],
        )


class BatchesFromMemory:
    """`__getitems__` for datasets that may have an `ImageMemory`, `memory`.

    The information of each image then has its 'slot' there.
    """

    memory: ImageMemory | None = None
    pipeline: Any
    get_data_info: Any
    __getitem__: Any

    def __getitems__(self, indices: Sequence[int]) -> Sequence[dict]:
        """Return the samples at these indices, as one by one."""
        multi_crop = self._multi_crop()
        if multi_crop is None or not all(
            isinstance(index, SampleKey) for index in indices
        ):
            return [self[index] for index in indices]
        assert self.memory is not None
        infos = [self.get_data_info(index) for index in indices]
        slots = [info.pop('slot') for info in infos]
        if not self.memory.errors.keys().isdisjoint(slots):
            return [self[index] for index in indices]
        keys = np.array(
            [
                (int(key), key.epoch, key.seed)
                for key in indices
                if isinstance(key, SampleKey)
            ]
        )
        views = multi_crop.cut_batch(
            self.memory.flat(), self.memory.spans[slots], keys
        )
        return ViewBatch(views, LazyDataSamples(infos))

    def _multi_crop(self) -> MultiCrop | None:
        """Return the transform that cuts, if the pipeline does nothing else.

        And if it can cut a batch: with numba, not on the device.
        """
        kinds = [type(each) for each in self.pipeline.transforms]
        if kinds[:1] == [LoadImage]:
            kinds = kinds[1:]
        if (
            self.memory is None
            or kinds != [MultiCrop, PackViews]
            or jit.NO_NUMBA is not None
        ):
            return None
        multi_crop = self.pipeline.transforms[-2]
        return None if multi_crop.on_device else multi_crop
