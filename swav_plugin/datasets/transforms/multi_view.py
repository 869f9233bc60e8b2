"""`MultiView`: several random views of one image. V: views."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import numpy as np
from mmcv.transforms import BaseTransform

from swav_plugin.registry import TRANSFORMS, build_transforms

from .loading import check_rgb
from .randomness import (
    RandomTransform,
    global_generators_from,
    sample_key,
)
from .streams import FIRST_VIEW, Streams


@TRANSFORMS.register_module()
class MultiView(BaseTransform):
    """Turn an image into V views, each with random transforms of its own.

    For pipelines of your own. For SwAV's recipe, with whatever numbers,
    `MultiCrop` is several times as fast.

    All views come from the one decoded image, which is not copied: a
    transform that writes into it gets NumPy's error for read-only arrays.
    Each view has its own random numbers, keyed by (seed, epoch, index, view)
    if the samples come from `KeyedSampler`. Transforms of mmcv, mmpretrain
    and others work, too: the global generators are keyed while they run.

    Args:
        num_views: Number of views in each group; an int is one group.
        transforms: For each group, the list of its transforms.

    Source: multi-crop, SwAV (arXiv:2006.09882), section 3.3.

    >>> from swav_plugin.datasets import SampleKey
    >>> from swav_plugin.datasets.transforms import RandomResizedCrop
    >>> multi_view = MultiView(
    ...     [2, 6], [[RandomResizedCrop(224)], [RandomResizedCrop(96)]])
    >>> photo = np.zeros((375, 500, 3), np.uint8)
    >>> key = SampleKey(0, epoch=0, seed=31)
    >>> views = multi_view(dict(img=photo, sample_idx=key))['img']
    >>> [view.shape[0] for view in views]
    [224, 224, 96, 96, 96, 96, 96, 96]
    """

    def __init__(
        self,
        num_views: int | list[int],
        transforms: list[list[dict | Callable]],
    ) -> None:
        if isinstance(num_views, int):
            num_views = [num_views]
        if any(not isinstance(group, (list, tuple)) for group in transforms):
            raise ValueError(
                'MultiView got a transform where a group of transforms is '
                'expected; give one list for each group, e.g. '
                'transforms=[[crop, flip], [small_crop, flip]].'
            )
        if len(num_views) != len(transforms):
            raise ValueError(
                f'MultiView got {len(transforms)} crop groups but '
                f'{len(num_views)} counts; give one count for each group, '
                'e.g. num_views=[2, 6].'
            )
        check_num_views(num_views, 'MultiView')
        self.num_views = num_views
        self.groups = [build_transforms(group) for group in transforms]

    def transform(self, results: dict) -> dict:
        """Replace results['img'], (H, W, 3), with a list of V views of it."""
        check_rgb(results, 'MultiView')
        img = results['img'].view()
        img.flags.writeable = False
        streams = Streams(sample_key(results.get('sample_idx')))
        views: list[np.ndarray] = []
        for num_views, group in zip(self.num_views, self.groups):
            # Ours draw from results['streams'], others from global generators.
            has_others = not all(
                isinstance(transform, RandomTransform) for transform in group
            )
            for _ in range(num_views):
                streams.start_view(FIRST_VIEW + len(views))
                view = dict(results, img=img, streams=streams)
                with (
                    global_generators_from(streams.next('global generators'))
                    if has_others
                    else nullcontext()
                ):
                    for transform in group:
                        view = transform(view)
                views.append(view['img'])
        results['img'] = views
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(num_views={self.num_views}, '
            f'transforms={self.groups})'
        )


def check_num_views(num_views: Sequence[int], owner: str) -> None:
    """Check the number of views in each group.

    Args:
        num_views: One number for each group.
        owner: Name of the transform, for the message.

    Raises:
        ValueError: A group has none, or there are no groups.
    """
    if not num_views or not all(
        isinstance(num, int) and num >= 1 for num in num_views
    ):
        raise ValueError(
            f'{owner} got num_views={num_views}; '
            'every group needs at least one view.'
        )
