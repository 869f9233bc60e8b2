"""From a sample to what the model takes. V: views."""

from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmpretrain.structures import DataSample
from torch import Tensor

from swav_plugin.registry import TRANSFORMS

from .whole_image import whole_image


@TRANSFORMS.register_module()
class PackViews(BaseTransform):
    """Pack the views of a sample, or its one image, for the model.

    Gives {'inputs', 'data_samples'}: the inputs are a list of V uint8
    (3, h, w) tensors after `MultiView`, a `WholeImage` where the device is to
    cut them (results['view_params']), else one tensor. The DataSample has the
    label as `gt_label` if there is one and, as meta information, `img_path`,
    `sample_idx` and `skipped`: the unreadable files, 'path: reason', in whose
    place this image stands.
    """

    def transform(self, results: dict) -> dict:
        """Pack results['img'], (h, w, 3) arrays."""
        img = results['img']
        inputs: Any
        if 'view_params' in results:
            inputs = whole_image(img, results['view_params'])
        elif isinstance(img, list):
            inputs = [_view_to_tensor(view) for view in img]
        else:
            inputs = torch.from_numpy(img.transpose(2, 0, 1).copy())
        data_sample = DataSample(
            metainfo=dict(
                img_path=results.get('img_path'),
                sample_idx=results.get('sample_idx'),
                skipped=results.get('skipped', []),
            )
        )
        if results.get('gt_label') is not None:
            data_sample.set_gt_label(results['gt_label'])
        return dict(inputs=inputs, data_samples=data_sample)


def _view_to_tensor(view: np.ndarray) -> Tensor:
    """Give a (3, h, w) tensor for an (h, w, 3) array.

    Views of `MultiCrop` are planar already and not copied. What `MultiView`
    lets see of the decoded image is read-only, and copied.
    """
    return torch.from_numpy(
        np.require(view.transpose(2, 0, 1), requirements=['C', 'W'])
    )
