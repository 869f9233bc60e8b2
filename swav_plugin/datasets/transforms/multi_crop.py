"""`MultiCrop`: all random views of an image at once. V: views."""

import functools
import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.logging import print_log
from torch import Tensor

from swav_plugin.compat import jit
from swav_plugin.compat.moved import renamed_arguments
from swav_plugin.registry import TRANSFORMS

from ..sampler import SampleKey
from . import cpu_ops, pillow_ops
from .crop import RandomFlip, RandomResizedCrop
from .loading import check_rgb
from .multi_view import check_num_views
from .photometric import ColorJitter, GaussianBlur, RandomGrayscale
from .randomness import sample_key
from .view_params import Recipe, draw_view_params
from .worker_memory import new_bytes


@TRANSFORMS.register_module()
class MultiCrop(BaseTransform):
    """Cut V views out of an image by SwAV's recipe, in one compiled loop.

    The views are those of `MultiView` with RandomResizedCrop, RandomFlip,
    ColorJitter, RandomGrayscale and GaussianBlur, in this order, which is
    upstream's: the same bytes for the same sample, in a fraction of the time.
    For a recipe with other numbers use MultiCrop, with 0 for what it leaves
    out; for one with other transforms use `MultiView`. What happens to a view
    depends on (seed, epoch, index, view) if the samples come from
    `KeyedSampler`.

    The loops are compiled at the first use after an installation. Without
    numba, Pillow makes the same views; a warning says so.

    Args:
        num_views: Number of views in each group.
        sizes: For each group, the size of its views in pixels.
        crop_ratio_ranges: For each group, least and largest share of the
            image's area.
        aspect_ratio_range: Least and largest width / height of a crop.
        flip_prob: Probability of mirroring a view.
        brightness: As in `ColorJitter`.
        contrast: As in `ColorJitter`.
        saturation: As in `ColorJitter`.
        hue: As in `ColorJitter`.
        jitter_prob: Probability of changing the colors.
        grayscale_prob: Probability of taking the color out.
        sigma_range: Least and largest sigma of the blur, in pixels.
        blur_prob: Probability of blurring a view.
        on_device: Leave the image as it is, and say in
            results['view_params'] what the data preprocessor has to cut out
            of it, on the model's device.

    Source: multi-crop, SwAV (arXiv:2006.09882), section 3.3 and appendix A.

    >>> from swav_plugin.datasets import SampleKey
    >>> multi_crop = MultiCrop([2, 6], [224, 96], [(.14, 1.), (.05, .14)])
    >>> photo = np.zeros((375, 500, 3), np.uint8)
    >>> key = SampleKey(0, epoch=0, seed=31)
    >>> views = multi_crop(dict(img=photo, sample_idx=key))['img']
    >>> [view.shape[0] for view in views]
    [224, 224, 96, 96, 96, 96, 96, 96]
    """

    @renamed_arguments(scales='sizes')
    def __init__(
        self,
        num_views: Sequence[int],
        sizes: Sequence[int],
        crop_ratio_ranges: Sequence[tuple[float, float]],
        aspect_ratio_range: tuple[float, float] = (3 / 4, 4 / 3),
        flip_prob: float = 0.5,
        brightness: float = 0.8,
        contrast: float = 0.8,
        saturation: float = 0.8,
        hue: float = 0.2,
        jitter_prob: float = 0.8,
        grayscale_prob: float = 0.2,
        sigma_range: tuple[float, float] = (0.1, 2.0),
        blur_prob: float = 0.5,
        on_device: bool = False,
    ) -> None:
        _check_groups(num_views, sizes, crop_ratio_ranges)
        # The separate transforms check their arguments.
        crops = [
            RandomResizedCrop(size, ratios, aspect_ratio_range)
            for num, size, ratios in zip(num_views, sizes, crop_ratio_ranges)
            for _ in range(num)
        ]
        flip = RandomFlip(flip_prob)
        jitter = ColorJitter(
            brightness, contrast, saturation, hue, jitter_prob
        )
        grayscale = RandomGrayscale(grayscale_prob)
        blur = GaussianBlur(sigma_range, blur_prob)
        self.recipe = Recipe(
            sizes=np.array([crop.size for crop in crops], np.int64),
            crop_ratio_ranges=np.array(
                [crop.crop_ratio_range for crop in crops], float
            ),
            aspect_ratio_range=np.array(aspect_ratio_range, float),
            flip_prob=float(flip.prob),
            amount_ranges=jitter.amount_ranges,
            jitter_prob=float(jitter.prob),
            grayscale_prob=float(grayscale.prob),
            sigma_range=np.array(blur.sigma_range, float),
            blur_prob=float(blur.prob),
        )
        self.on_device = on_device
        self._compile()

    def _compile(self) -> None:
        """Compile all loops now, before each worker process would do it."""
        if jit.NO_NUMBA is not None:
            _warn_once(
                f'MultiCrop runs without numba ({jit.NO_NUMBA}): it makes the '
                'same views, but takes several times as long. To get it: pip '
                'install numba'
            )
            return
        # Time of this process: on a busy machine loading may take long, too.
        start = time.process_time()
        img = np.zeros((8, 8, 3), np.uint8)
        params = draw_view_params(SampleKey(0, 0, 0), 8, 8, self.recipe)
        if not self.on_device:
            self.cut(img, params)
            self.cut_batch(
                cpu_ops.read_only(img.reshape(-1)),
                np.array([[img.size, 8, 8]]),
                np.zeros((1, 3), np.int64),
            )
        seconds = time.process_time() - start
        if jit.NO_CACHE is not None:
            _warn_once(
                'MultiCrop compiles its loops in every run, because it '
                f'cannot store them: {jit.NO_CACHE}. Set NUMBA_CACHE_DIR to '
                'a folder that it can write to.'
            )
        elif seconds > 3:
            print_log(
                f'MultiCrop compiled its loops in {seconds:.0f} s; this '
                'happens once per installation.',
                logger='current',
            )

    def transform(self, results: dict) -> dict:
        """Replace results['img'], (H, W, 3), with a list of V views of it."""
        check_rgb(results, 'MultiCrop')
        img = results['img']
        shape: tuple = getattr(img, 'shape', ())
        dtype = getattr(img, 'dtype', None)
        if (
            dtype != np.uint8
            or len(shape) != 3
            or (shape[2] != 3 or img.size == 0)
        ):
            raise ValueError(
                f'MultiCrop got a {type(img).__name__} of shape {shape} and '
                f'type {dtype}; expected (H, W, 3) uint8 RGB, as '
                'from LoadImage.'
            )
        key = sample_key(results.get('sample_idx'))
        params = draw_view_params(key, img.shape[0], img.shape[1], self.recipe)
        if self.on_device:
            results['view_params'] = params
        else:
            results['img'] = self.cut(img, params)
        return results

    def cut(self, img: np.ndarray, params: np.ndarray) -> list[np.ndarray]:
        """Cut V views, (size, size, 3) uint8, by rows of `draw_view_params`.

        They share no memory with the image.
        """
        if jit.NO_NUMBA is not None:
            return pillow_ops.cut_views(img, params)
        return cpu_ops.cut_views(img, params)

    def cut_batch(
        self, memory: np.ndarray, spans: np.ndarray, keys: np.ndarray
    ) -> list[Tensor]:
        """Cut the V views of B images at once, in one compiled loop.

        Args:
            memory: (n,) uint8: images (H, W, 3), somewhere in it.
            spans: (B, 3) int64: where each image ends, its height and width.
            keys: (B, 3) int64: index, epoch and seed of each `SampleKey`.

        Returns:
            V tensors (B, 3, size, size), the views of `transform`. In a worker
            they are in memory that it shares with the main process.
        """
        nums = len(keys) * 3 * self.recipe.sizes**2
        out = new_bytes(int(nums.sum()))
        cpu_ops.cut_batch(memory, spans, keys, self.recipe, out.numpy())
        return [
            views.view(len(keys), 3, size, size)
            for views, size in zip(
                out.split(nums.tolist()), self.recipe.sizes.tolist()
            )
        ]

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.recipe})'


def _check_groups(num_views: Any, sizes: Any, crop_ratio_ranges: Any) -> None:
    """Raise unless these are lists of the same length, with counts >= 1."""
    groups = (num_views, sizes, crop_ratio_ranges)
    if not all(isinstance(group, (list, tuple)) for group in groups) or (
        not len(num_views) == len(sizes) == len(crop_ratio_ranges)
    ):
        raise ValueError(
            f'MultiCrop got num_views={num_views}, sizes={sizes} and '
            f'crop_ratio_ranges={crop_ratio_ranges}; give lists with one '
            'of each for each group, e.g. num_views=[2, 6], '
            'sizes=[224, 96], crop_ratio_ranges=[(0.14, 1.0), '
            '(0.05, 0.14)].'
        )
    check_num_views(num_views, 'MultiCrop')


@functools.cache
def _warn_once(message: str) -> None:
    """Log a warning, once in a process."""
    print_log(message, logger='current', level=logging.WARNING)
