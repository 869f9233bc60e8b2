"""Cut the views of a batch out of its images, on any device (torch).

The operations of `pillow_ops` under the same names, for all views of one size
together. `pillow_ops` is the reference. Promised: boxes are exact; values of
whole views differ from its views by 0.15 of 255 on average in float32, and by
0.3 in float16, which is used on CUDA, because resizing and blur round less
often than Pillow does. `cpu_ops` is the third implementation.

What happens to each view is drawn by the loader, see `view_params`: nothing
here is random, and nothing waits for the device. Brightness, contrast and
saturation, which are all blends, share one function; flipping is a part of
`crop_and_resize`, where it costs nothing.

Letters for shapes: B images, V views of each, N any images or views, H and W
of the largest image in a chunk. Images and views are whole numbers in
0 ... 255, as float32 or float16; operations return the type that they get.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..collate import ImageBatch
from . import view_params as column
from .view_params import BRIGHTNESS, CONTRAST, HUE, SATURATION

# Pixels of images and views to work on at a time. This bounds the memory, at
# about 40 bytes a pixel, to 0.7 GB; 256 images of ImageNet make seven chunks.
MAX_PIXELS = 2**24


@torch.no_grad()
def cut_views(batch: ImageBatch) -> list[Tensor]:
    """Cut V views out of each image.

    Returns:
        V tensors (B, 3, size, size) uint8, on the device of the batch.
    """
    num_images = len(batch.sizes)
    views = [
        batch.pixels.new_empty((num_images, 3, size, size))
        for size in batch.view_sizes
    ]
    view_pixels = sum(size**2 for size in batch.view_sizes)
    # Autocast would round positions and colors to bfloat16.
    with torch.autocast(batch.pixels.device.type, enabled=False):
        for chunk in _chunks(batch.sizes, view_pixels):
            images = _pad(batch, chunk)
            for size in dict.fromkeys(batch.view_sizes):
                same = [
                    v
                    for v, other in enumerate(batch.view_sizes)
                    if other == size
                ]
                rows = torch.stack(
                    [batch.params[chunk, v] for v in same], dim=1
                )
                cut = _cut(images, rows, size)
                for v, view in zip(same, cut.unbind(1)):
                    views[v][chunk] = view
    return views


def _chunks(
    sizes: Sequence[tuple[int, int]], view_pixels: int
) -> Iterator[slice]:
    """Split a batch into chunks of at most MAX_PIXELS, padding included.

    A single image may have more.
    """
    start, height, width = 0, 0, 0
    for i, (h, w) in enumerate(sizes):
        height, width = max(height, h), max(width, w)
        pixels = (i + 1 - start) * (height * width + view_pixels)
        if i > start and pixels > MAX_PIXELS:
            yield slice(start, i)
            start, height, width = i, h, w
    yield slice(start, len(sizes))


def _pad(batch: ImageBatch, chunk: slice) -> Tensor:
    """Return the images of a chunk as (N, 3, H, W), in float16 on CUDA.

    float16 holds whole numbers up to 2048 exactly, and half the bytes take
    half the time.
    """
    device = batch.pixels.device
    height, width = (max(lengths) for lengths in zip(*batch.sizes[chunk]))
    first, pitch = batch.layout[chunk].view(-1, 2, 1, 1).unbind(1)
    index = (
        first
        + pitch * torch.arange(height, device=device)[:, None]
        + torch.arange(width, device=device)
    )
    # Beyond an image lie pixels of the next one. Their weights are 0, so that
    # any pixel will do, as long as there is one.
    index.clamp_(max=len(batch.pixels) - 1)
    dtype = torch.float16 if device.type == 'cuda' else torch.float32
    return (
        batch.pixels[index]
        .permute(0, 3, 1, 2)
        .to(dtype, memory_format=torch.contiguous_format)
    )


def _cut(images: Tensor, rows: Tensor, size: int) -> Tensor:
    """(N, 3, H, W), (N, V, NUM_PARAMS) -> (N, V, 3, size, size)."""
    views = crop_and_resize(images, rows, size).flatten(0, 1)
    rows = rows.flatten(0, 1)
    views = jitter_colors(views, rows)
    views = to_grayscale(views, rows[:, column.GRAYSCALE])
    views = gaussian_blur(views, rows[:, column.SIGMA])
    return views.unflatten(0, (len(images), -1))


def crop_and_resize(images: Tensor, rows: Tensor, size: int) -> Tensor:
    """Cut a box for each view, resize and maybe flip it.

    Bilinear with antialiasing.

    Args:
        images: (N, 3, H, W).
        rows: (N, V, NUM_PARAMS) float32, with boxes in pixels of the images,
            which need not be whole numbers.
        size: Height and width of a view in pixels.

    Returns:
        (N, V, 3, size, size).

    Source: Pillow, Image.resize with BILINEAR. Where it resizes vertically
    first, values may differ by 1.
    """
    num, num_views = rows.shape[:2]
    height, width = images.shape[2:]
    centers = torch.arange(size, device=images.device) + 0.5
    flipped = torch.where(
        rows[..., column.FLIP, None] > 0, size - centers, centers
    )
    across = _weights(
        rows[..., column.LEFT], rows[..., column.WIDTH], flipped / size, width
    )
    down = _weights(
        rows[..., column.TOP],
        rows[..., column.HEIGHT],
        (centers / size).expand_as(flipped),
        height,
    )
    # One product for each image, then one for each view.
    lines = torch.bmm(
        images.flatten(1, 2),
        across.flatten(1, 2).transpose(1, 2).to(images.dtype),
    )
    lines = _round(
        lines.view(num, 3, height, num_views, size).permute(0, 3, 2, 1, 4)
    )
    cut = torch.bmm(
        down.flatten(0, 1).to(images.dtype),
        lines.reshape(num * num_views, height, 3 * size),
    )
    cut = cut.view(num, num_views, size, 3, size).transpose(2, 3)
    return _round(cut).contiguous()


def _weights(
    start: Tensor, length: Tensor, centers: Tensor, extent: int
) -> Tensor:
    """Return the weights of an image's pixels in a view's, along one axis.

    Args:
        start: (N, V) first pixel of the box.
        length: (N, V) its length in pixels.
        centers: (N, V, size) of the view's pixels, as shares of the box.
        extent: Number of pixels of the image.

    Returns:
        (N, V, size, extent), of which the last dimension adds up to 1.
    """
    # Positions in elementwise float32: matrix products may be in TF32.
    pixel = torch.arange(extent, device=start.device) + 0.5 - start[..., None]
    is_inside = (pixel > 0) & (pixel < length[..., None])
    # How many pixels of the image become one of the view, at least 1.
    ratio = (length / centers.shape[-1]).clamp(min=1)[..., None, None]
    weights = (length[..., None] * centers)[..., None] - pixel[..., None, :]
    weights = weights.div_(ratio).abs_().neg_().add_(1).clamp_(min=0)
    weights *= is_inside[..., None, :]
    return weights.div_(weights.sum(-1, keepdim=True))


def jitter_colors(images: Tensor, rows: Tensor) -> Tensor:
    """Make the color adjustments of each row of parameters, in its order.

    Args:
        images: (N, 3, size, size).
        rows: (N, NUM_PARAMS) float32.

    Source: torchvision.transforms.functional.adjust_* on Pillow images.
    """
    order = rows[:, column.ORDER : column.ORDER + 4].long()
    is_hue = order == HUE
    is_after = is_hue.cumsum(1) > 0
    # Hue costs more than the others together, so it is adjusted in all images
    # at once, between what comes before it and what comes after.
    for i in range(3):
        images = _adjust_by_blending(
            images, rows, order[:, i], ~is_after[:, i]
        )
    images = torch.where(
        is_after[:, -1].view(-1, 1, 1, 1),
        adjust_hue(images, rows[:, column.AMOUNT + HUE]),
        images,
    )
    for i in range(1, 4):
        images = _adjust_by_blending(
            images, rows, order[:, i], is_after[:, i] & ~is_hue[:, i]
        )
    return images


def _adjust_by_blending(
    images: Tensor, rows: Tensor, adjustment: Tensor, is_wanted: Tensor
) -> Tensor:
    """Adjust brightness, contrast or saturation where wanted.

    Args:
        images: (N, 3, size, size).
        rows: (N, NUM_PARAMS) float32.
        adjustment: (N,) int64, which of the three each image gets. NOTHING
            leaves it as it is.
        is_wanted: (N,) bool; all others stay as they are.
    """
    is_wanted = is_wanted & (adjustment >= BRIGHTNESS)
    adjustment = adjustment.clamp(min=BRIGHTNESS)
    factor = rows[:, column.AMOUNT : column.AMOUNT + 4].gather(
        1, adjustment[:, None]
    )
    factor = torch.where(is_wanted[:, None], factor, 1.0)
    factor = factor.to(images.dtype).view(-1, 1, 1, 1)
    adjustment = adjustment.view(-1, 1, 1, 1)
    gray = _luma(images)
    mean = torch.floor(gray.mean((2, 3), keepdim=True) + 0.5)
    # What the image becomes at factor 0: black, its mean, or itself in gray.
    base = torch.where(
        adjustment == SATURATION, gray, mean * (adjustment == CONTRAST)
    )
    return torch.lerp(base, images, factor).clamp_(0, 255).floor_()


def _luma(images: Tensor) -> Tensor:
    """Return luma of ITU-R 601-2: (N, 3, ...) -> (N, 1, ...).

    As Pillow's convert('L'), exactly in float32.
    """
    red, green, blue = images.split(1, dim=1)
    # Pillow's weights. They have 16 bits and the values 8: no sum is rounded.
    total = (red * (19595 / 65536)).add_(green, alpha=38470 / 65536)
    return _round(total.add_(blue, alpha=7471 / 65536))


def adjust_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn the color wheel, for each image by its own number of turns.

    By way of Pillow's 8-bit hue, saturation and value, as torchvision does.

    Args:
        images: (N, 3, size, size).
        turns: (N,) float32 in [-0.5, 0.5].
    """
    value = images.amax(1, keepdim=True)
    chroma = value - images.amin(1, keepdim=True)
    # How far each channel is below the largest, as a share of the chroma.
    red, green, blue = ((value - images) / chroma.clamp(min=1)).split(1, dim=1)
    hue = torch.where(
        red == 0,
        blue - green,
        torch.where(green == 0, 2 + red - blue, 4 + green - red),
    )
    hue = torch.floor(torch.remainder(hue / 6 + 1, 1) * 255)
    saturation = torch.floor(chroma / value.clamp(min=1) * 255)
    shift = torch.trunc(turns * 255).to(images.dtype).view(-1, 1, 1, 1)
    sextant = torch.remainder(hue + shift, 256) * (6 / 255)
    # Each channel's distance on the circle from the third where it is largest.
    own = torch.arange(5, 0, -2, device=images.device).view(3, 1, 1)
    distance = torch.remainder(sextant + own, 6)
    distance = torch.minimum(distance, 4 - distance).clamp_(0, 1)
    return _round(value - distance.mul_(value * saturation / 255))


def to_grayscale(images: Tensor, is_wanted: Tensor) -> Tensor:
    """Set all channels to the luma in the images where it is wanted.

    Args:
        images: (N, 3, size, size).
        is_wanted: (N,), > 0 where it is.
    """
    return torch.where(is_wanted.view(-1, 1, 1, 1) > 0, _luma(images), images)


def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur each image with its own sigma; 0 leaves it as it is.

    Three box filters along each axis as one matrix, Pillow's at the border
    too.

    Args:
        images: (N, 3, size, size).
        sigma: (N,) float32 standard deviation in pixels, >= 0.

    Source: Pillow, ImageFilter.GaussianBlur.
    """
    box = _box_filter(_box_radius(sigma), images.shape[-1])
    gauss = torch.bmm(torch.bmm(box, box), box).to(images.dtype)
    across = torch.bmm(images.flatten(1, 2), gauss.transpose(1, 2))
    return _round(torch.matmul(gauss[:, None], _round(across).view_as(images)))


def _box_radius(sigma: Tensor) -> Tensor:
    """Return the radius of the box that three times makes the blur; (N,)."""
    variance = sigma**2 / 3
    whole = torch.floor((torch.sqrt(12 * variance + 1) - 1) / 2)
    part = (
        (2 * whole + 1)
        * (whole * (whole + 1) - 3 * variance)
        / (6 * (variance - (whole + 1) ** 2))
    )
    return whole + part


def _box_filter(radius: Tensor, size: int) -> Tensor:
    """Return matrices that average 2 * radius + 1 pixels.

    (N,) -> (N, size, size). Beyond the border, its pixels are repeated.
    """
    radius = radius.view(-1, 1, 1)
    index = torch.arange(size, device=radius.device)
    distance = (index[:, None] - index).abs()
    weights = (radius + 1 - distance).clamp(0, 1)
    beyond = (radius - index[:, None]).clamp(min=0)
    weights[..., :1] += beyond
    weights[..., -1:] += beyond.flip(1)
    return weights / (2 * radius + 1)


def _round(values: Tensor) -> Tensor:
    """Round to the nearest whole number, in place; halves up, as in Pillow."""
    return values.add_(0.5).floor_()
