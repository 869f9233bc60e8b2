"""Turn a sample into what the model takes. V: views."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmpretrain.structures import DataSample
from PIL import Image
from torch import Tensor

from swav_plugin.registry import TRANSFORMS

from .loading import EncodedImage, check_rgb, read_rgb
from .view_params import HEIGHT, LEFT, SIZE, TOP, WIDTH

# How many pixels of an image, along each side, a pixel of a view needs at
# least: a coarser image would show.
_MIN_PIXELS = 2


@TRANSFORMS.register_module()
class PackViews(BaseTransform):
    """Pack the views of a sample, or its one image, for the model.

    Returns {'inputs', 'data_samples'}. The inputs are a list of V uint8
    (3, h, w) tensors after `MultiView` or `MultiCrop`; a `WholeImage` if the
    device is to cut them (results['view_params']); else one tensor. The
    DataSample has the label as `gt_label` if there is one and, as meta
    information, `img_path`, `sample_idx` and `skipped`: the unreadable files
    that this image replaces, 'path: reason' each.
    """

    def transform(self, results: dict) -> dict:
        """Pack results['img'], (h, w, 3) arrays."""
        check_rgb(results, 'PackViews')
        img = results['img']
        inputs: Any
        if 'view_params' in results:
            inputs = whole_image(img, results['view_params'])
        elif isinstance(img, list):
            inputs = [_view_to_tensor(view) for view in img]
        else:
            inputs = torch.from_numpy(img.transpose(2, 0, 1).copy())
        return dict(inputs=inputs, data_samples=make_data_sample(results))


def make_data_sample(results: dict) -> DataSample:
    """Return the DataSample that `PackViews` gives."""
    data_sample = DataSample(
        metainfo=dict(
            img_path=results.get('img_path'),
            sample_idx=results.get('sample_idx'),
            skipped=results.get('skipped', []),
        )
    )
    if results.get('gt_label') is not None:
        data_sample.set_gt_label(results['gt_label'])
    return data_sample


def _view_to_tensor(view: np.ndarray) -> Tensor:
    """Return a (3, h, w) tensor of an (h, w, 3) array."""
    # Views of `MultiCrop` are planar and their own: they are not copied. A
    # view of `MultiView` may be the decoded image, read-only: it is.
    return torch.from_numpy(
        np.require(view.transpose(2, 0, 1), requirements=['C', 'W'])
    )


@dataclass(frozen=True)
class WholeImage:
    """An image for the device, and what to cut out of it.

    Not a tuple, which only `collate_views` accepts.
    """

    # (H, W, 3) uint8 RGB, not to be written to, or its file
    pixels: np.ndarray | EncodedImage
    params: np.ndarray  # (V, NUM_PARAMS), see `view_params`


def whole_image(
    img: np.ndarray | EncodedImage, params: np.ndarray
) -> WholeImage:
    """Combine an image with the parameters of its views; shrink a huge one.

    Blocks of pixels are averaged as long as each box keeps at least two
    pixels, along each side, for a pixel of its view. So 12,000x9,000 pixels
    become a few megabytes. With SwAV's crops, photographs of less than 3
    megapixels always stay as they are. Views differ by less than 1/255 on
    average.

    Args:
        img: (H, W, 3) uint8 RGB, not copied. A file is decoded only if it is
            to be shrunk.
        params: (V, NUM_PARAMS) rows of `draw_view_params` for its shape.
    """
    shortest = params[:, [HEIGHT, WIDTH]].min(axis=1)
    factor = int((shortest / (_MIN_PIXELS * params[:, SIZE])).min())
    if factor > 1:
        if isinstance(img, EncodedImage):
            img = read_rgb(img.path)
        img = np.asarray(Image.fromarray(img).reduce(factor))
        params = params.copy()
        params[:, [TOP, LEFT, HEIGHT, WIDTH]] /= factor
    return WholeImage(img, params)
