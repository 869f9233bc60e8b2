"""Feature1 to Feature5: what of each feature map linear probes and SVMs see.

N images, C_i channels and h_i x w_i pixels of feature map i.
"""
from typing import Optional

import torch.nn.functional as F
from torch import Tensor

# Of the page, for images of 224 px: side of the map, then kernel, stride and
# padding of the average over windows. The grids have 12, 6, 4, 3 and 2 windows
# to a side, which makes every ResNet-50 feature 8,192 or 9,216 numbers wide.
PAGE_WINDOWS = {
    'feature1': (112, 10, 10, 4),
    'feature2': (56, 16, 8, 0),
    'feature3': (28, 13, 5, 0),
    'feature4': (14, 8, 3, 0),
    'feature5': (7, 6, 1, 0),
}
GRIDS = dict(feature1=12, feature2=6, feature3=4, feature4=3, feature5=2)


def pool_feature(
    maps: Tensor, name: str, grid: Optional[int] = None
) -> Tensor:
    """Average a feature map over windows and flatten it.

    Args:
        maps: (N, C, h, w).
        name: 'feature1' to 'feature5'.
        grid: None for the page's windows, which need maps of images of
            224 px. A number for that many windows to a side, for maps of any
            size; `GRIDS` has the page's.

    Returns:
        (N, C * windows), as the page orders them: channel by channel.

    Raises:
        ValueError: If the page's windows do not fit the map.

    Source: mmselfsup's MultiPooling, after Goyal et al. (arXiv:1905.01235),
    section 4.

    >>> import torch
    >>> pool_feature(torch.zeros(1, 2048, 7, 7), 'feature5').shape
    torch.Size([1, 8192])
    """
    if grid is not None:
        return F.adaptive_avg_pool2d(maps, grid).flatten(1)
    side, kernel, stride, padding = PAGE_WINDOWS[name]
    if maps.shape[2:] != (side, side):
        raise ValueError(
            f'{name} is {maps.shape[2]}x{maps.shape[3]}, but the windows of '
            f"the page are for {side}x{side}, which images of 224x224 give. "
            "Resize to 224 in the pipeline, or set windows='adaptive' for the "
            'same number of windows on maps of any size.')
    return F.avg_pool2d(maps, kernel, stride, padding).flatten(1)
