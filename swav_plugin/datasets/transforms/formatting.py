"""From a sample to what the model takes. V: views."""
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmpretrain.structures import DataSample
from torch import Tensor

from swav_plugin.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackViews(BaseTransform):
    """Pack the views of a sample, or its one image, for the model.

    Gives {'inputs', 'data_samples'}: the inputs are a list of V uint8
    (3, h, w) tensors after `MultiView`, else one. The DataSample has the
    label as `gt_label` if there is one and, as meta information, `img_path`,
    `sample_idx` and `skipped`: the unreadable files, 'path: reason', in whose
    place this image stands.
    """

    def transform(self, results: dict) -> dict:
        """Pack results['img'], (h, w, 3) arrays."""
        img = results['img']
        inputs = ([_to_tensor(view) for view in img]
                  if isinstance(img, list) else _to_tensor(img))
        data_sample = DataSample(
            metainfo=dict(
                img_path=results.get('img_path'),
                sample_idx=results.get('sample_idx'),
                skipped=results.get('skipped', [])))
        if results.get('gt_label') is not None:
            data_sample.set_gt_label(results['gt_label'])
        return dict(inputs=inputs, data_samples=data_sample)


def _to_tensor(img: np.ndarray) -> Tensor:
    """Give a (3, h, w) tensor of its own for an (h, w, 3) array."""
    return torch.from_numpy(img.transpose(2, 0, 1).copy())
