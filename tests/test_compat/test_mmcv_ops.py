"""Operators by torchvision against loops in NumPy, and against compiled ones.

The references are written from the definitions, in float64, one number at a
time. Where mmcv has compiled operators, those are compared as well.
"""

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import module_from_spec
from math import ceil, exp, floor, log
from pathlib import Path
from types import ModuleType
from typing import Any

import swav_plugin  # noqa: F401 isort:skip  before mmcv.ops

import mmcv.ops
import numpy as np
import pytest
import torch
from torch import Tensor

from swav_plugin.compat.stack import OperatorFinder

DEVICES = [
    'cpu',
    pytest.param(
        'cuda',
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(
                not torch.cuda.is_available(), reason='needs a CUDA device'
            ),
        ],
    ),
]
SPEC = OperatorFinder.find_spec('mmcv._ext')
assert SPEC is not None and SPEC.loader is not None
OURS = module_from_spec(SPEC)
SPEC.loader.exec_module(OURS)


@pytest.fixture(autouse=True)
def ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let mmcv's functions call our operators, whatever it was built with."""
    for name in ('nms', 'roi_align', 'roi_pool', 'focal_loss'):
        module = import_module(f'mmcv.ops.{name}')
        monkeypatch.setattr(module, 'ext_module', OURS)


@pytest.fixture
def compiled() -> ModuleType:
    """mmcv's compiled operators, or skip."""
    module = import_module('mmcv._ext')
    if module.__file__ == OURS.__file__:
        pytest.skip('mmcv was installed without compiled operators')
    return module


def numbers(*shape: int, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.standard_normal(shape))


def random_boxes(count: int, size: float = 60, seed: int = 0) -> Tensor:
    """(count, 4) boxes of 1 to 31 pixels inside `size` and beyond."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(-5, size - 10, (count, 2))
    return torch.from_numpy(
        np.concatenate([corner, corner + rng.uniform(1, 31, (count, 2))], 1)
    )


# --------------------------------------------------------------- suppression


def iou(a: np.ndarray, b: np.ndarray, offset: int) -> float:
    """Overlap of two boxes, 0 where it is 0 / 0."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    areas = [(c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b)]
    union = sum(areas) - width * height
    return width * height / union if union else 0.0


def reference_nms(
    boxes: np.ndarray, scores: np.ndarray, threshold: float, offset: int
) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if all(iou(boxes[i], boxes[j], offset) <= threshold for j in kept):
            kept.append(i)
    return kept


def reference_soft_nms(
    boxes: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    sigma: float,
    min_score: float,
    method: str,
    offset: int,
) -> list[tuple[int, float]]:
    """Indices of kept boxes with their new scores."""
    left = {i: float(score) for i, score in enumerate(scores)}
    kept = []
    while left:
        best = max(left, key=lambda i: (left[i], -i))
        kept.append((best, left.pop(best)))
        for i in list(left):
            overlap = iou(boxes[best], boxes[i], offset)
            if method == 'gaussian':
                left[i] *= exp(-(overlap**2) / sigma)
            elif overlap >= threshold:
                left[i] *= 1 - overlap if method == 'linear' else 0
            if left[i] < min_score:
                del left[i]
    return kept


def special_boxes() -> Tensor:
    """Equal, touching, nested, point-like, line-like and turned boxes."""
    return torch.tensor(
        [
            [0, 0, 10, 10],
            [0, 0, 10, 10],
            [10, 0, 20, 10],
            [2, 2, 8, 8],
            [5, 5, 5, 5],
            [5, 5, 5, 5],
            [3, 0, 3, 10],
            [0, 0, 10, 5],
            [9, 9, 4, 4],
            [-8, -8, -1, -1],
            [0, 0, 1e4, 1e4],
        ],
        dtype=torch.float64,
    )


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('threshold', [0.0, 0.3, 0.5, 0.7])
def test_nms(
    device: str, dtype: torch.dtype, offset: int, threshold: float
) -> None:
    for boxes in (random_boxes(120), special_boxes(), torch.empty(0, 4)):
        boxes = boxes.to(device, dtype)
        scores = torch.linspace(0.9, 0.1, len(boxes)).flip(0)[
            torch.randperm(
                len(boxes), generator=torch.Generator().manual_seed(1)
            )
        ]
        scores = scores.to(device, dtype)
        dets, indices = mmcv.ops.nms(boxes, scores, threshold, offset)
        expected = reference_nms(
            boxes.cpu().numpy(), scores.cpu().numpy(), threshold, offset
        )
        assert indices.tolist() == expected
        assert indices.dtype == torch.long and indices.device == boxes.device
        assert torch.equal(
            dets, torch.cat([boxes, scores[:, None]], dim=1)[indices]
        )


def test_nms_at_the_threshold_keeps_and_ties_go_to_the_first() -> None:
    boxes = torch.tensor([[0, 0, 10, 10.0], [0, 0, 5, 10.0], [0, 0, 10, 10.0]])
    scores = torch.tensor([0.5, 0.5, 0.5])
    assert mmcv.ops.nms(boxes, scores, 0.5)[1].tolist() == [0, 1]
    assert mmcv.ops.nms(boxes, scores, 0.49)[1].tolist() == [0]
    # One pixel more at both ends: IoU 66 / 121.
    assert mmcv.ops.nms(boxes, scores, 0.54, offset=1)[1].tolist() == [0]


def test_nms_of_views_and_with_score_threshold() -> None:
    boxes = random_boxes(60).float()
    scores = torch.rand(60, generator=torch.Generator().manual_seed(0))
    table = torch.cat([scores[:, None], boxes], dim=1)
    expected = mmcv.ops.nms(boxes, scores, 0.4)
    for found in (
        mmcv.ops.nms(table[:, 1:], table[:, 0], 0.4),
        mmcv.ops.nms(boxes.t().contiguous().t(), scores, 0.4),
    ):
        assert torch.equal(found[1], expected[1])
    found = mmcv.ops.nms(boxes, scores, 0.4, score_threshold=0.5, max_num=7)[1]
    above = [
        i
        for i in reference_nms(boxes.numpy(), scores.numpy(), 0.4, 0)
        if scores[i] > 0.5
    ]
    assert found.tolist() == above[:7]


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('split_thr', [10000, 50])
def test_batched_nms_is_nms_of_each_class(device: str, split_thr: int) -> None:
    boxes = random_boxes(150).to(device, torch.float32)
    scores = torch.rand(150, generator=torch.Generator().manual_seed(0))
    scores = scores.to(device)
    classes = torch.arange(150, device=device) % 3
    dets, keep = mmcv.ops.batched_nms(
        boxes,
        scores,
        classes,
        dict(type='nms', iou_threshold=0.4, split_thr=split_thr),
    )
    expected = []
    for c in range(3):
        members = (classes == c).nonzero()[:, 0].cpu()
        expected += [
            int(members[i])
            for i in reference_nms(
                boxes[members].cpu().numpy(),
                scores[members].cpu().numpy(),
                0.4,
                0,
            )
        ]
    expected.sort(key=lambda i: -float(scores[i]))
    assert keep.tolist() == expected
    assert torch.equal(dets[:, 4], scores[keep])
    agnostic = mmcv.ops.batched_nms(
        boxes,
        scores,
        classes,
        dict(type='nms', iou_threshold=0.4),
        class_agnostic=True,
    )[1]
    assert agnostic.tolist() == reference_nms(
        boxes.cpu().numpy(), scores.cpu().numpy(), 0.4, 0
    )


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('min_score', [1e-3, 0.2])
def test_soft_nms(method: str, offset: int, min_score: float) -> None:
    scores_of = torch.Generator().manual_seed(0)
    for boxes in (random_boxes(80), special_boxes(), torch.empty(0, 4)):
        boxes = boxes.double()
        scores = torch.rand(
            len(boxes), dtype=torch.float64, generator=scores_of
        )
        dets, indices = mmcv.ops.soft_nms(
            boxes, scores, 0.3, 0.5, min_score, method, offset
        )
        expected = reference_soft_nms(
            boxes.numpy(), scores.numpy(), 0.3, 0.5, min_score, method, offset
        )
        assert indices.tolist() == [i for i, _ in expected]
        assert torch.equal(dets[:, :4], boxes[indices])
        np.testing.assert_allclose(
            dets[:, 4], [score for _, score in expected], rtol=1e-12
        )


# ---------------------------------------------------------------------- RoIs


def some_rois() -> Tensor:
    """Boxes of three images: inside, across edges, outside, tiny, turned."""
    return torch.tensor(
        [
            [0, 4.2, 3.1, 30.7, 21.9],
            [2, 0, 0, 47, 39],
            [1, -9, -5, 12, 70],
            [1, 44, 36, 60, 60],
            [0, 100, 100, 120, 130],
            [2, 7.5, 7.5, 7.5, 7.5],
            [0, 8, 8, 8.6, 30],
            [1, 20, 20, 10, 12],
            [2, 3.7, 9.9, 11.2, 10.6],
        ],
        dtype=torch.float64,
    )


def samples(
    roi: np.ndarray,
    out: tuple[int, int],
    scale: float,
    ratio: int,
    aligned: bool,
    shape: tuple[int, int],
) -> list[tuple[int, int, int, int, float]]:
    """RoIAlign as (p, q, y, x, weight): out[p, q] += weight * map[y, x]."""
    shift = 0.5 if aligned else 0
    x1, y1, x2, y2 = (float(v) * scale - shift for v in roi[1:])
    width, height = x2 - x1, y2 - y1
    if not aligned:
        width, height = max(width, 1), max(height, 1)
    num_y = ratio if ratio > 0 else ceil(height / out[0])
    num_x = ratio if ratio > 0 else ceil(width / out[1])
    found = []
    for p in range(out[0]):
        for q in range(out[1]):
            for j in range(num_y):
                for i in range(num_x):
                    y = y1 + height / out[0] * (p + (j + 0.5) / num_y)
                    x = x1 + width / out[1] * (q + (i + 0.5) / num_x)
                    if not (-1 <= y <= shape[0] and -1 <= x <= shape[1]):
                        continue
                    for row, wy in linear(y, shape[0]):
                        for column, wx in linear(x, shape[1]):
                            found.append(
                                (p, q, row, column, wy * wx / (num_y * num_x))
                            )
    return found


def linear(at: float, length: int) -> list[tuple[int, float]]:
    """Return the two pixels around a coordinate, and their weights."""
    at = min(max(at, 0), length - 1)
    low = min(floor(at), length - 2) if length > 1 else 0
    return [(low, 1 - (at - low)), (min(low + 1, length - 1), at - low)]


def reference_roi_align(
    maps: np.ndarray,
    rois: np.ndarray,
    grad: np.ndarray,
    out: tuple[int, int],
    scale: float,
    ratio: int,
    aligned: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Values, and the gradient of sum(values * grad)."""
    values = np.zeros((len(rois), maps.shape[1], *out))
    grads = np.zeros_like(maps)
    for r, roi in enumerate(rois):
        image = int(roi[0])
        for p, q, y, x, weight in samples(
            roi, out, scale, ratio, aligned, maps.shape[2:]
        ):
            values[r, :, p, q] += weight * maps[image, :, y, x]
            grads[image, :, y, x] += weight * grad[r, :, p, q]
    return values, grads


def run(
    operator: Callable[..., Tensor],
    maps: Tensor,
    rois: Tensor,
    grad: Tensor,
    *args: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """Values, and the gradient of sum(values * grad), as float64."""
    maps = maps.detach().clone().requires_grad_()
    values = operator(maps, rois, *args)
    values.backward(grad.to(values))
    assert values.dtype == maps.dtype and maps.grad is not None
    return tuple(
        t.detach().cpu().double().numpy() for t in (values, maps.grad)
    )


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 1, 2, 3])
@pytest.mark.parametrize('scale, out', [(1 / 4, (3, 3)), (1.0, (2, 5))])
def test_roi_align(
    device: str, aligned: bool, ratio: int, scale: float, out: tuple[int, int]
) -> None:
    maps, rois = numbers(3, 2, 10, 12), some_rois()
    grad = numbers(len(rois), 2, *out, seed=1)
    expected = reference_roi_align(
        maps.numpy(), rois.numpy(), grad.numpy(), out, scale, ratio, aligned
    )
    assert np.abs(expected[0]).sum() > 1
    for dtype, atol in ((torch.float64, 1e-12), (torch.float32, 2e-5)):
        found = run(
            mmcv.ops.roi_align,
            maps.to(device, dtype),
            rois.to(device, dtype),
            grad.to(device),
            out,
            scale,
            ratio,
            'avg',
            aligned,
        )
        for a, b in zip(found, expected):
            np.testing.assert_allclose(a, b, atol=atol)


def reference_roi_pool(
    maps: np.ndarray,
    rois: np.ndarray,
    grad: np.ndarray,
    out: tuple[int, int],
    scale: float,
) -> tuple[np.ndarray, np.ndarray]:
    """mmcv's: values, and the gradient of sum(values * grad)."""
    height, width = maps.shape[2:]
    values = np.zeros((len(rois), maps.shape[1], *out))
    grads = np.zeros_like(maps)
    for r, (image, x1, y1, x2, y2) in enumerate(rois):
        x1, y1 = x1 * scale, y1 * scale
        bin_w = ((x2 + 1) * scale - x1) / out[1]
        bin_h = ((y2 + 1) * scale - y1) / out[0]
        if bin_w <= 0 or bin_h <= 0:
            continue
        for p, q in np.ndindex(out):
            ys = range(
                max(floor(p * bin_h + y1), 0),
                min(ceil((p + 1) * bin_h + y1), height),
            )
            xs = range(
                max(floor(q * bin_w + x1), 0),
                min(ceil((q + 1) * bin_w + x1), width),
            )
            pixels = [(y, x) for y in ys for x in xs]
            for c in range(maps.shape[1]) if pixels else ():
                y, x = max(pixels, key=lambda at: maps[int(image), c][at])
                values[r, c, p, q] = maps[int(image), c, y, x]
                grads[int(image), c, y, x] += grad[r, c, p, q]
    return values, grads


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize(
    'scale, out', [(1 / 4, (3, 3)), (1.0, (2, 5)), (0.3, (7, 7))]
)
def test_roi_pool(device: str, scale: float, out: tuple[int, int]) -> None:
    maps, rois = numbers(3, 2, 10, 12), some_rois()
    grad = numbers(len(rois), 2, *out, seed=1)
    expected = reference_roi_pool(
        maps.numpy(), rois.numpy(), grad.numpy(), out, scale
    )
    assert (expected[0] == 0).any() and np.abs(expected[0]).sum() > 1
    for dtype, atol in ((torch.float64, 1e-12), (torch.float32, 2e-6)):
        found = run(
            mmcv.ops.roi_pool,
            maps.to(device, dtype),
            rois.to(device, dtype),
            grad.to(device),
            out,
            scale,
        )
        for a, b in zip(found, expected):
            np.testing.assert_allclose(a, b, atol=atol)


def test_roi_pool_gives_a_tie_to_the_first_pixel() -> None:
    maps = torch.zeros(1, 1, 4, 4, requires_grad=True)
    rois = torch.tensor([[0, 0, 0, 3, 3.0]])
    mmcv.ops.roi_pool(maps, rois, (2, 2), 1.0).sum().backward()
    assert maps.grad is not None
    assert maps.grad[0, 0].nonzero().tolist() == [
        [0, 0],
        [0, 2],
        [2, 0],
        [2, 2],
    ]


def roi_align(maps: Tensor, rois: Tensor) -> Tensor:
    return mmcv.ops.roi_align(maps, rois, (3, 2), 0.5, 2, 'avg', True)


def roi_pool(maps: Tensor, rois: Tensor) -> Tensor:
    return mmcv.ops.roi_pool(maps, rois, (3, 2), 0.5)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('operator', [roi_align, roi_pool])
def test_no_rois(device: str, operator: Callable[..., Tensor]) -> None:
    maps = torch.ones(2, 3, 8, 8, device=device, requires_grad=True)
    values = operator(maps, torch.empty(0, 5, device=device))
    assert values.shape == (0, 3, 3, 2)
    values.sum().backward()
    assert maps.grad is not None and not maps.grad.any()


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('operator', [roi_align, roi_pool])
def test_views_and_channels_last(
    device: str, operator: Callable[..., Tensor]
) -> None:
    maps = numbers(3, 4, 10, 12).to(device, torch.float32)
    rois = some_rois().to(device, torch.float32)
    grad = numbers(len(rois), 4, 3, 2).to(device, torch.float32)
    expected = run(operator, maps, rois, grad)
    turned = maps.transpose(2, 3).contiguous().transpose(2, 3)
    wide = torch.cat([rois, rois], dim=1)[:, :5]
    for found in (
        run(
            operator,
            maps.to(memory_format=torch.channels_last),
            rois,
            grad.to(memory_format=torch.channels_last),
        ),
        run(
            operator,
            turned,
            wide,
            grad.transpose(2, 3).contiguous().transpose(2, 3),
        ),
    ):
        for a, b in zip(found, expected):
            np.testing.assert_allclose(a, b, atol=1e-6)
    # One number in memory for each row: what sum() sends back.
    column = grad[..., :1].expand(-1, -1, -1, 2)
    np.testing.assert_allclose(
        run(operator, maps, rois, column)[1],
        run(operator, maps, rois, column.contiguous())[1],
        atol=1e-6,
    )


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('operator', [roi_align, roi_pool])
@pytest.mark.parametrize('half', [torch.float16, torch.bfloat16])
def test_half_precision_is_float32_rounded(
    device: str, operator: Callable[..., Tensor], half: torch.dtype
) -> None:
    maps = numbers(3, 2, 10, 12).to(device, half)
    rois = some_rois().to(device, half)
    grad = numbers(len(rois), 2, 3, 2).to(device, half)
    expected = run(operator, maps.float(), rois.float(), grad.float())
    for found in (
        run(operator, maps, rois, grad),
        run(operator, maps, rois.float(), grad),
    ):
        for a, b in zip(found, expected):
            rounded = torch.from_numpy(b).to(half).double().numpy()
            np.testing.assert_allclose(a, rounded, rtol=1e-2, atol=1e-2)
    boxes = random_boxes(50).to(device, half)
    scores = torch.linspace(1, 0, 50).to(device, half)
    assert torch.equal(
        mmcv.ops.nms(boxes, scores, 0.5)[1],
        mmcv.ops.nms(boxes.float(), scores.float(), 0.5)[1],
    )


@pytest.mark.parametrize('device', DEVICES)
def test_autocast(device: str) -> None:
    maps = numbers(3, 2, 10, 12).to(device, torch.float32)
    rois = some_rois().to(device, torch.float32)
    expected = roi_align(maps, rois)
    with torch.autocast(device, torch.bfloat16):
        assert torch.equal(roi_align(maps, rois), expected)
        low = roi_align(maps.bfloat16(), rois)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), expected, rtol=0, atol=0.02)


# ---------------------------------------------------------------- focal loss


def reference_focal(
    logits: np.ndarray,
    classes: np.ndarray,
    gamma: float,
    alpha: float,
    weight: np.ndarray | None,
) -> np.ndarray:
    losses = np.zeros_like(logits)
    for n, c in np.ndindex(logits.shape):
        p = 1 / (1 + exp(-logits[n, c]))
        if classes[n] == c:
            losses[n, c] = -alpha * (1 - p) ** gamma * log(p)
        else:
            losses[n, c] = -(1 - alpha) * p**gamma * log(1 - p)
        if weight is not None and classes[n] < len(weight):
            losses[n, c] *= weight[classes[n]]
    return losses


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('gamma, alpha', [(2.0, 0.25), (0.0, 0.5), (0.5, 0.8)])
@pytest.mark.parametrize('has_weight', [False, True])
@pytest.mark.parametrize(
    'dtype, rtol', [(torch.float64, 1e-12), (torch.float32, 2e-5)]
)
def test_sigmoid_focal_loss(
    device: str,
    gamma: float,
    alpha: float,
    has_weight: bool,
    dtype: torch.dtype,
    rtol: float,
) -> None:
    logits = 3 * numbers(7, 4)
    classes = torch.tensor([0, 3, 4, 1, 2, 4, 0])  # 4: background
    weight = torch.tensor([0.5, 1, 2, 3.0]) if has_weight else None

    def reference(at: np.ndarray) -> np.ndarray:
        return reference_focal(
            at,
            classes.numpy(),
            gamma,
            alpha,
            weight.numpy() if weight is not None else None,
        )

    given = logits.clone().to(device, dtype).requires_grad_()
    found = mmcv.ops.sigmoid_focal_loss(
        given,
        classes.to(device),
        gamma,
        alpha,
        None if weight is None else weight.to(device),
        'none',
    )
    np.testing.assert_allclose(
        found.detach().cpu(), reference(logits.numpy()), rtol=rtol
    )
    factors = numbers(7, 4, seed=1)
    found.backward(factors.to(device, dtype))
    assert given.grad is not None
    step = 1e-5
    slope = (
        reference(logits.numpy() + step) - reference(logits.numpy() - step)
    ) / (2 * step)
    np.testing.assert_allclose(
        given.grad.cpu(),
        factors.numpy() * slope,
        rtol=max(rtol, 1e-7),
        atol=1e-8,
    )


def test_sigmoid_focal_loss_of_sure_answers_and_of_none() -> None:
    logits = torch.tensor([[200.0, -200.0, 1e4]], requires_grad=True)
    loss = mmcv.ops.sigmoid_focal_loss(
        logits, torch.tensor([1]), 0.5, 0.25, None, 'none'
    )
    # Wrong by 200, wrong by 200, wrong by 1e4.
    torch.testing.assert_close(loss, torch.tensor([[150.0, 50.0, 7500.0]]))
    loss.sum().backward()
    torch.testing.assert_close(
        logits.grad, torch.tensor([[0.75, -0.25, 0.75]])
    )
    right = torch.tensor([[-200.0, 200.0, -1e4]], requires_grad=True)
    loss = mmcv.ops.sigmoid_focal_loss(right, torch.tensor([1]), 0.5, 0.25)
    loss.backward()
    assert loss == 0 and not right.grad.any()
    none = mmcv.ops.sigmoid_focal_loss(
        torch.empty(0, 3),
        torch.empty(0, dtype=torch.long),
        2.0,
        0.25,
        None,
        'sum',
    )
    assert none == 0


# ------------------------------------------------------- compiled operators


def both(
    compiled: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    call: Callable[[], Any],
) -> tuple[Any, Any]:
    """Return the results of `call` with our operators and compiled ones."""
    found = call()
    monkeypatch.setattr(
        import_module(f'mmcv.ops.{module}'), 'ext_module', compiled
    )
    return found, call()


@pytest.mark.parametrize('offset', [0, 1])
def test_nms_equals_compiled(
    compiled: ModuleType, monkeypatch: pytest.MonkeyPatch, offset: int
) -> None:
    boxes = random_boxes(2000, size=300).float()
    scores = torch.rand(2000, generator=torch.Generator().manual_seed(0))
    found, expected = both(
        compiled,
        monkeypatch,
        'nms',
        lambda: [
            mmcv.ops.nms(boxes, scores, t, offset)[1] for t in (0.3, 0.5, 0.7)
        ],
    )
    for a, b in zip(found, expected):
        assert torch.equal(a, b)


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
def test_soft_nms_equals_compiled(
    compiled: ModuleType, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    boxes = random_boxes(300).float()
    scores = torch.rand(300, generator=torch.Generator().manual_seed(0))
    (dets, indices), (compiled_dets, compiled_indices) = both(
        compiled,
        monkeypatch,
        'nms',
        lambda: mmcv.ops.soft_nms(boxes, scores, method=method),
    )
    assert torch.equal(indices, compiled_indices)
    torch.testing.assert_close(dets, compiled_dets, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 2])
def test_roi_align_equals_compiled(
    compiled: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    aligned: bool,
    ratio: int,
) -> None:
    maps = numbers(3, 2, 10, 12).float()
    rois = some_rois().float()
    rois = rois[(rois[:, 3:] >= rois[:, 1:3]).all(dim=1)]  # else it raises
    grad = numbers(len(rois), 2, 3, 3, seed=1)
    found, expected = both(
        compiled,
        monkeypatch,
        'roi_align',
        lambda: run(
            mmcv.ops.roi_align,
            maps,
            rois,
            grad,
            (3, 3),
            0.25,
            ratio,
            'avg',
            aligned,
        ),
    )
    for a, b in zip(found, expected):
        np.testing.assert_array_equal(a, b)


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason='mmcv compiles roi_pool and focal loss for CUDA only',
)
def test_cuda_operators_equal_compiled(
    compiled: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = numbers(3, 2, 10, 12).float().cuda()
    rois = some_rois().float().cuda()
    grad = numbers(len(rois), 2, 3, 2, seed=1)
    for module, call in (
        ('roi_pool', lambda: run(roi_pool, maps, rois, grad)),
        ('roi_align', lambda: run(roi_align, maps, rois, grad)),
        (
            'focal_loss',
            lambda: run(
                mmcv.ops.sigmoid_focal_loss,
                maps.flatten(1).t()[:, :2],
                torch.arange(240).cuda() % 3,
                torch.ones(240, 2),
                2.0,
                0.25,
                None,
                'none',
            ),
        ),
    ):
        for a, b in zip(*both(compiled, monkeypatch, module, call)):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------ around mmcv.ops


def python(code: str) -> str:
    """Run code in a new process; give what it logged and printed."""
    done = subprocess.run(
        [sys.executable, '-c', code],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_announced_once_when_first_used() -> None:
    out = python(
        'import swav_plugin, sys\n'
        'assert not {"torchvision", "mmcv"} & {*sys.modules}\n'
        'from swav_plugin.compat.stack import OperatorFinder\n'
        'class Hide:\n'
        '    @staticmethod\n'
        '    def find_spec(name, path=None, target=None):\n'
        '        return OperatorFinder.find_spec(name)\n'
        'sys.meta_path.insert(0, Hide)\n'
        'import torch, mmcv.ops\n'
        'print("imported")\n'
        'for _ in range(2):\n'
        '    mmcv.ops.nms(torch.rand(3, 4), torch.rand(3), .5)\n'
    )
    before, after = out.split('imported')
    assert 'compiled operators' not in before
    assert after.count('has no compiled operators') == 1
    assert 'torchvision' in after


def test_compiled_operators_come_first(tmp_path: Path) -> None:
    """A module that Python finds by itself is never replaced."""
    (tmp_path / '_ext.py').write_text('compiled = True\n')
    out = python(
        'import swav_plugin, mmcv\n'
        f'mmcv.__path__.insert(0, {str(tmp_path)!r})\n'
        'import mmcv._ext\n'
        'print(mmcv._ext.compiled)\n'
    )
    assert 'True' in out


def test_other_operators_raise_when_called() -> None:
    with pytest.raises(
        NotImplementedError,
        match="mmcv's operator 'nms_match' .*"
        'without compiled operators. .*pip install',
    ):
        mmcv.ops.nms_match(torch.rand(3, 5), 0.5)
    with pytest.raises(NotImplementedError, match=r'RoIAlign\(pool_mode='):
        mmcv.ops.roi_align(
            torch.rand(1, 1, 4, 4), torch.rand(1, 5), (2, 2), 1.0, 2, 'max'
        )
    # Only for mmcv: pytest, for one, looks for names of its own in modules.
    assert not hasattr(OURS, '__path__')
    assert not hasattr(
        import_module('swav_plugin.compat.mmcv_ops'), 'pytest_plugins'
    )
