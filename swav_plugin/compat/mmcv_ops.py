"""The compiled operators of mmcv that detectors need, from torchvision.

`pip install mmcv-lite` and onedl-mmcv's wheel install `mmcv.ops` without its
compiled part, `mmcv._ext`, and mmdet cannot be imported without that.
`swav_plugin.compat.stack` makes Python run this file as `mmcv._ext` if there
is not a compiled one.

Each function takes the arguments of the compiled one of its name and, like
it, writes its result into a tensor of the caller. All run on CPU and CUDA,
also under autocast; half precision is computed in float32.

Letters: C channels · H, W feature map · h, w bins of a box · Y classes · N and
M any rows. A row of `rois` (M, 5) is the index of the image, then x1, y1, x2,
y2.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
import torchvision  # registers torch.ops.torchvision
from mmengine.logging import print_log
from torch import Tensor

# torch 2.14 asks for C++20, mmcv is written and compiled as C++17.
_INSTALL = (
    'To compile mmcv for a torch below 2.14, with a C++ compiler and for GPUs '
    'nvcc: `pip install --no-build-isolation --no-cache-dir --force-reinstall '
    '--no-deps onedl-mmcv`; on the official stack `pip uninstall -y mmcv-lite`'
    ' and `pip install --no-build-isolation mmcv==2.1.0`.'
)


@functools.cache
def _announce() -> None:
    """Log once in a process that these operators are in use."""
    print_log(
        f'mmcv {_mmcv_version()} has no compiled operators: nms, soft_nms, '
        'roi_align, roi_pool and sigmoid_focal_loss are computed by '
        f'torchvision {torchvision.__version__}.',
        logger='current',
        level=logging.INFO,
    )


def _mmcv_version() -> str:
    """Return the version of the mmcv that lacks operators."""
    import mmcv

    return mmcv.__version__


def __getattr__(name: str) -> Callable[..., Any]:
    """Return any other operator of mmcv, which raises when it is called."""
    # Tools such as pytest look for names of their own in modules.
    if __name__ != 'mmcv._ext' or name.startswith('__'):
        raise AttributeError(f'module {__name__!r} has no {name!r}')

    def missing(*args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(
            f"mmcv's operator '{name}' exists in compiled form only, and this "
            f'mmcv was installed without compiled operators. {_INSTALL}'
        )

    return missing


def _wide(values: Tensor) -> Tensor:
    """Return half precision as float32, which torchvision's CPU code needs."""
    is_wide = values.dtype in (torch.float32, torch.float64)
    return values if is_wide else values.float()


def nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int
) -> Tensor:
    """Drop boxes that overlap a box with a higher score.

    Args:
        boxes: (N, 4) x1, y1, x2, y2.
        scores: (N,). Of equal scores the first wins.
        iou_threshold: A box is dropped above it, not at it.
        offset: 1 if a box from x1 to x2 is x2 - x1 + 1 wide, else 0.

    Returns:
        int64 indices of the boxes that are kept, highest score first.
    """
    _announce()
    boxes = _wide(boxes)
    if offset:
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], dim=1)
    return torch.ops.torchvision.nms(
        boxes, scores.to(boxes.dtype), iou_threshold
    )


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Lower the scores of boxes that overlap a box with a higher score.

    mmcv calls it on the CPU only.

    Args:
        boxes: (N, 4) x1, y1, x2, y2.
        scores: (N,). Of equal scores the first wins.
        dets: (N, 5), gets the boxes and their new scores, highest first.
        iou_threshold: For methods 0 and 1: scores are lowered at or above it.
        sigma: For method 2.
        min_score: A box is dropped when its score falls below it.
        method: 0 drops (naive), 1 scales by 1 - IoU (linear), 2 by
            exp(-IoU^2 / sigma) (gaussian).
        offset: As for `nms`.

    Returns:
        (M,) int64 indices of the M boxes that are kept; only the first M rows
        of `dets` are written.

    Source: Soft-NMS (arXiv:1704.04503).
    """
    _announce()
    boxes, scores = _wide(boxes.detach()), _wide(scores.detach())
    left = torch.arange(len(scores))
    kept: list[int] = []
    while len(left):
        best = scores.argmax()
        dets[len(kept), :4] = boxes[best]
        dets[len(kept), 4] = scores[best]
        kept.append(int(left[best]))
        others = torch.arange(len(left)) != best
        ious = _ious(boxes[best], boxes[others], offset)
        boxes, scores, left = boxes[others], scores[others], left[others]
        if method == 2:
            scores = scores * torch.exp(-(ious**2) / sigma)
        else:
            lowered = 1 - ious if method == 1 else torch.zeros_like(ious)
            scores = torch.where(
                ious >= iou_threshold, scores * lowered, scores
            )
        stay = scores >= min_score
        boxes, scores, left = boxes[stay], scores[stay], left[stay]
    return torch.tensor(kept, dtype=torch.long)


def _ious(box: Tensor, boxes: Tensor, offset: int) -> Tensor:
    """Return overlaps: (4,), (N, 4) -> (N,); 0 for two boxes without area."""
    sizes = boxes[:, 2:] - boxes[:, :2] + offset
    size = box[2:] - box[:2] + offset
    shared = (
        torch.minimum(boxes[:, 2:], box[2:])
        - torch.maximum(boxes[:, :2], box[:2])
        + offset
    ).clamp(min=0)
    intersection = shared.prod(dim=1)
    union = size.prod() + sizes.prod(dim=1) - intersection
    return torch.nan_to_num(intersection / union, nan=0)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Average each bin of each box over bilinear samples.

    Args:
        input: (N, C, H, W) feature maps.
        rois: (M, 5) in pixels of the image.
        output: (M, C, h, w), gets the result.
        argmax_y: Unused: for the mode 'max' only.
        argmax_x: Likewise.
        aligned_height: h.
        aligned_width: w.
        spatial_scale: Feature map pixels for each pixel of the image.
        sampling_ratio: Samples along each side of a bin; 0 for its size in
            pixels of the feature map, rounded up.
        pool_mode: 1, the average.
        aligned: True if pixel centers are at .5; else boxes are at least 1
            wide and high.

    Raises:
        NotImplementedError: `pool_mode` asks for the maximum.

    Source: Mask R-CNN (arXiv:1703.06870), section 3.
    """
    _announce()
    _check_average(pool_mode)
    maps = _wide(input)
    boxes, size = rois.to(maps.dtype), (aligned_height, aligned_width)
    output.copy_(
        torch.ops.torchvision.roi_align(
            maps, boxes, spatial_scale, *size, sampling_ratio, aligned
        )
    )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the gradient of `roi_align_forward`, (N, C, H, W)."""
    _check_average(pool_mode)
    grad = _wide(grad_output)
    boxes = rois.to(grad.dtype)
    sizes = aligned_height, aligned_width, *grad_input.shape
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            grad, boxes, spatial_scale, *sizes, sampling_ratio, aligned
        )
    )


def _check_average(pool_mode: int) -> None:
    """Raise if RoIAlign is to take the maximum, which torchvision cannot."""
    if pool_mode != 1:
        raise NotImplementedError(
            "RoIAlign(pool_mode='max') exists in compiled form only, and this "
            'mmcv was installed without compiled operators; use the average. '
            f'{_INSTALL}'
        )


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Take the maximum of each bin of each box; 0 where a bin is empty.

    torchvision and Caffe round boxes to whole pixels of the feature map; mmcv
    rounds each bin, outwards. So torchvision gets each bin as a box.

    Args:
        input: (N, C, H, W) feature maps.
        rois: (M, 5) in pixels of the image, x2 and y2 inside the box.
        output: (M, C, h, w), gets the result.
        argmax: (M, C, h, w) int32, gets the index of the maximum in H * W,
            or -1 for an empty bin.
        pooled_height: h.
        pooled_width: w.
        spatial_scale: Feature map pixels for each pixel of the image.
    """
    _announce()
    maps = _wide(input)
    channels, height, width = maps.shape[1:]
    rois = rois.to(maps.dtype)
    x1, x2 = _bins(rois[:, 1], rois[:, 3], spatial_scale, pooled_width, width)
    y1, y2 = _bins(
        rois[:, 2], rois[:, 4], spatial_scale, pooled_height, height
    )
    shape = len(rois), pooled_height, pooled_width
    bins = torch.stack(
        [
            rois[:, 0, None, None].expand(shape),
            x1[:, None, :].expand(shape),
            y1[:, :, None].expand(shape),
            x2[:, None, :].expand(shape) - 1,
            y2[:, :, None].expand(shape) - 1,
        ],
        dim=-1,
    )
    is_empty = ((x2 <= x1)[:, None, :] | (y2 <= y1)[:, :, None])[:, None]
    maxima, indices = torch.ops.torchvision.roi_pool(
        maps, bins.flatten(0, 2), 1.0, 1, 1
    )
    maxima, indices = (
        found.view(*shape, channels).permute(0, 3, 1, 2)
        for found in (maxima, indices)
    )
    output.copy_(maxima.masked_fill(is_empty, 0))
    argmax.copy_(indices.masked_fill(is_empty, -1))


def _bins(
    first: Tensor, last: Tensor, scale: float, num_bins: int, length: int
) -> tuple[Tensor, Tensor]:
    """Return where bins begin and end in whole pixels, (M, num_bins) each.

    Args:
        first: (M,) first pixel of each box in the image.
        last: (M,) last pixel.
        scale: Feature map pixels for each pixel of the image.
        num_bins: h or w.
        length: H or W.
    """
    begin = first * scale
    size = (last + 1) * scale - begin
    steps = torch.arange(num_bins + 1, device=first.device)
    edges = steps * (size / num_bins)[:, None] + begin[:, None]
    begins = edges[:, :-1].floor().clamp(0, length)
    ends = edges[:, 1:].ceil().clamp(0, length)
    return begins, torch.where(size[:, None] > 0, ends, begins)


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Write the gradient of `roi_pool_forward`, (N, C, H, W)."""
    grad = _wide(grad_output)
    grad_input.copy_(
        torch.ops.torchvision._roi_pool_backward(
            grad,
            rois.to(grad.dtype),
            argmax,
            spatial_scale,
            pooled_height,
            pooled_width,
            *grad_input.shape,
        )
    )


def sigmoid_focal_loss_forward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    output: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Weigh the binary cross-entropy of each class by how wrong it is.

    Args:
        input: (N, Y) logits.
        target: (N,) int64 classes; any but 0 to Y - 1 is background.
        weight: (Y,) factors for rows of a class (background: 1), or empty.
        output: (N, Y), gets the result.
        gamma: Exponent of the error.
        alpha: Weight of positives; that of negatives is 1 - alpha.

    Source: RetinaNet (arXiv:1708.02002), eq. 5.
    """
    _announce()
    logits, positive = _wide(input), _is_class(target, input)
    error, loss = _error_and_loss(logits, positive)
    output.copy_(
        error**gamma * loss * _factors(logits, target, positive, weight, alpha)
    )


def sigmoid_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Write the derivative of `sigmoid_focal_loss_forward`, (N, Y)."""
    logits, positive = _wide(input), _is_class(target, input)
    error, loss = _error_and_loss(logits, positive)
    # With z the logit of the right answer, error = sigmoid(-z) and
    # loss = -log(sigmoid(z)): d error / dz = -error (1 - error) and
    # d loss / dz = -error.
    slope = -(error**gamma) * (gamma * (1 - error) * loss + error)
    sign = torch.where(positive, 1.0, -1.0)
    grad_input.copy_(
        slope * sign * _factors(logits, target, positive, weight, alpha)
    )


def _is_class(target: Tensor, logits: Tensor) -> Tensor:
    """Mark the column of each row's class: (N,), (N, Y) -> (N, Y)."""
    return target[:, None] == torch.arange(
        logits.shape[1], device=logits.device
    )


def _error_and_loss(logits: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """Return 1 - p and -log(p) of the right answer, (N, Y) each."""
    right = torch.where(positive, logits, -logits)
    return torch.sigmoid(-right), -F.logsigmoid(right)


def _factors(
    logits: Tensor,
    target: Tensor,
    positive: Tensor,
    weight: Tensor,
    alpha: float,
) -> Tensor:
    """Return the factor of each loss for its class, (N, Y)."""
    factors = torch.full_like(logits, 1 - alpha).masked_fill(positive, alpha)
    if weight.numel():
        # The weight of background, which has no column, is 1.
        ones = weight.new_ones(1)
        row = torch.where(positive.any(dim=1), target, len(weight))
        factors = (
            factors * torch.cat([weight, ones]).to(logits.dtype)[row, None]
        )
    return factors


def get_compiler_version() -> str:
    """Name what computes in place of a compiler, for mmcv's `collect_env`."""
    return f'none (torchvision {torchvision.__version__})'


get_compiling_cuda_version = get_compiler_version
