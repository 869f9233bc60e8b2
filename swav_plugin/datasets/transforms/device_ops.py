"""Cut the views of a batch out of its images, on any device.

The same arithmetic as the transforms of single images, which is Pillow's, for
all views of one size together. The rows that say what happens to each view
come from the loader, `view_params`: nothing here is random, and nothing waits
for the device.

Letters for shapes: B images, V views of each, N any images or views, S side
of a view, H and W of the largest image in a chunk. Images and views are
whole numbers in 0 ... 255, as float32 or float16; what is done to them gives
the same type.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..collate import ImageBatch
from .view_params import (
    AMOUNT,
    BRIGHTNESS,
    CONTRAST,
    FLIP,
    GREY,
    HEIGHT,
    HUE,
    LEFT,
    ORDER,
    SATURATION,
    SIGMA,
    TOP,
    WIDTH,
)

# Of images and views that are worked on at a time. It bounds the memory, at
# about 40 bytes for each: 0.7 GB. A batch of 256 from ImageNet comes in seven
# chunks.
MAX_PIXELS = 2**24


@torch.no_grad()
def cut_views(batch: ImageBatch) -> list[Tensor]:
    """Cut V views out of each image.

    Boxes are exact. Values differ from those of the transforms on the CPU by
    0.15 of 255 on average, and by 0.3 in float16, which is for CUDA: resizing
    and blur round less often than Pillow does.

    Returns:
        V tensors (B, 3, S, S) uint8, on the device of the batch.
    """
    num_images = len(batch.sizes)
    views = [
        batch.pixels.new_empty((num_images, 3, size, size))
        for size in batch.view_sizes
    ]
    view_pixels = sum(size**2 for size in batch.view_sizes)
    # Autocast would round positions and colours to bfloat16.
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
    """Split a batch so that no chunk has more than MAX_PIXELS, padded."""
    start, height, width = 0, 0, 0
    for i, (h, w) in enumerate(sizes):
        height, width = max(height, h), max(width, w)
        pixels = (i + 1 - start) * (height * width + view_pixels)
        if i > start and pixels > MAX_PIXELS:
            yield slice(start, i)
            start, height, width = i, h, w
    yield slice(start, len(sizes))


def _pad(batch: ImageBatch, chunk: slice) -> Tensor:
    """Give the images of a chunk as (N, 3, H, W), in float16 on CUDA.

    Whatever stands outside an image is never looked at. float16 holds whole
    numbers up to 2048 exactly, and half of the bytes take half of the time.
    """
    device = batch.pixels.device
    height, width = (max(sides) for sides in zip(*batch.sizes[chunk]))
    first, line = batch.places[chunk].view(-1, 2, 1, 1).unbind(1)
    index = (
        first
        + line * torch.arange(height, device=device)[:, None]
        + torch.arange(width, device=device)
    )
    index.clamp_(max=len(batch.pixels) - 1)
    dtype = torch.float16 if device.type == 'cuda' else torch.float32
    return (
        batch.pixels[index]
        .permute(0, 3, 1, 2)
        .to(dtype, memory_format=torch.contiguous_format)
    )


def _cut(images: Tensor, rows: Tensor, size: int) -> Tensor:
    """(N, 3, H, W), (N, V, NUM_PARAMS) -> (N, V, 3, S, S) of one size."""
    views = crop_and_resize(images, rows, size).flatten(0, 1)
    rows = rows.flatten(0, 1)
    views = jitter_colours(views, rows)
    views = make_grey(views, rows[:, GREY])
    views = blur(views, rows[:, SIGMA])
    return views.unflatten(0, (len(images), -1))


def crop_and_resize(images: Tensor, rows: Tensor, size: int) -> Tensor:
    """Cut a box for each view, resize and flip it; bilinear, antialiased.

    Args:
        images: (N, 3, H, W).
        rows: (N, V, NUM_PARAMS) float32, with boxes in pixels of the images.
            Numbers of pixels need not be whole.
        size: S.

    Returns:
        (N, V, 3, S, S).

    Source: Pillow, Image.resize with BILINEAR. Where it resizes the columns
    first, values may differ by 1.
    """
    num, num_views = rows.shape[:2]
    height, width = images.shape[2:]
    place = torch.arange(size, device=images.device) + 0.5
    flipped = torch.where(rows[..., FLIP, None] > 0, size - place, place)
    across = _weights(rows[..., LEFT], rows[..., WIDTH], flipped / size, width)
    down = _weights(
        rows[..., TOP],
        rows[..., HEIGHT],
        (place / size).expand_as(flipped),
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
    start: Tensor, length: Tensor, place: Tensor, extent: int
) -> Tensor:
    """Weights of all pixels in those of a view, along one axis.

    Args:
        start: (N, V) first pixel of the box.
        length: (N, V) its length in pixels.
        place: (N, V, S) where in the box a pixel of the view is, in 0 ... 1.
        extent: Number of pixels E.

    Returns:
        (N, V, S, E), sums over E are 1.
    """
    # Positions in elementwise float32: matrix products may be in TF32.
    pixel = torch.arange(extent, device=start.device) + 0.5 - start[..., None]
    is_inside = (pixel > 0) & (pixel < length[..., None])
    # Pixels of the image that one of the view stands for.
    scale = (length / place.shape[-1]).clamp(min=1)[..., None, None]
    weights = (length[..., None] * place)[..., None] - pixel[..., None, :]
    weights = weights.div_(scale).abs_().neg_().add_(1).clamp_(min=0)
    weights *= is_inside[..., None, :]
    return weights.div_(weights.sum(-1, keepdim=True))


def jitter_colours(images: Tensor, rows: Tensor) -> Tensor:
    """Change brightness, contrast, saturation and hue in each row's order.

    Args:
        images: (N, 3, S, S).
        rows: (N, NUM_PARAMS) float32.

    Source: torchvision.transforms.functional.adjust_* on Pillow images.
    """
    order = rows[:, ORDER : ORDER + 4].long()
    is_hue = order == HUE
    is_after = is_hue.cumsum(1) > 0
    # Hue costs more than the others together, so it is shifted for all images
    # at once, between what comes before it and what comes after.
    for position in range(3):
        images = _blend(
            images, rows, order[:, position], ~is_after[:, position]
        )
    images = torch.where(
        is_after[:, -1].view(-1, 1, 1, 1),
        shift_hue(images, rows[:, AMOUNT + HUE]),
        images,
    )
    for position in range(1, 4):
        images = _blend(
            images,
            rows,
            order[:, position],
            is_after[:, position] & ~is_hue[:, position],
        )
    return images


def _blend(
    images: Tensor, rows: Tensor, component: Tensor, is_wanted: Tensor
) -> Tensor:
    """Change one component, another (N,) for each image, where wanted (N,)."""
    is_wanted = is_wanted & (component >= BRIGHTNESS)
    component = component.clamp(min=BRIGHTNESS)
    factor = rows[:, AMOUNT : AMOUNT + 4].gather(1, component[:, None])
    factor = torch.where(is_wanted[:, None], factor, 1.0)
    factor = factor.to(images.dtype).view(-1, 1, 1, 1)
    component = component.view(-1, 1, 1, 1)
    grey = luma(images)
    mean = torch.floor(grey.mean((2, 3), keepdim=True) + 0.5)
    # What the image becomes at factor 0: black, its mean, or itself in grey.
    base = torch.where(
        component == SATURATION, grey, mean * (component == CONTRAST)
    )
    return torch.lerp(base, images, factor).clamp_(0, 255).floor_()


def luma(images: Tensor) -> Tensor:
    """Brightness of ITU-R 601-2: (N, 3, S, S) -> (N, 1, S, S).

    As Pillow's convert('L'), exactly in float32.
    """
    red, green, blue = images.split(1, dim=1)
    # Pillow's weights. They have 16 bits and the values 8: no sum is rounded.
    total = (red * (19595 / 65536)).add_(green, alpha=38470 / 65536)
    return _round(total.add_(blue, alpha=7471 / 65536))


def shift_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of each image by so many turns of the colour circle.

    By way of Pillow's 8-bit hue, saturation and value, as torchvision does.

    Args:
        images: (N, 3, S, S).
        turns: (N,) float32 in [-0.5, 0.5].
    """
    value = images.amax(1, keepdim=True)
    chroma = value - images.amin(1, keepdim=True)
    # How far each colour is below the largest: 0 ... 1.
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
    # Distance of red, green and blue from their own third of the circle.
    own = torch.arange(5, 0, -2, device=images.device).view(3, 1, 1)
    distance = torch.remainder(sextant + own, 6)
    distance = torch.minimum(distance, 4 - distance).clamp_(0, 1)
    return _round(value - distance.mul_(value * saturation / 255))


def make_grey(images: Tensor, is_grey: Tensor) -> Tensor:
    """Take the colour out of those images (N, 3, S, S) where (N,) is not 0."""
    return torch.where(is_grey.view(-1, 1, 1, 1) > 0, luma(images), images)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur each image with its own sigma; 0 leaves it as it is.

    Three box filters along each axis, as a matrix: the border is Pillow's.

    Args:
        images: (N, 3, S, S).
        sigma: (N,) float32 standard deviation in pixels, >= 0.

    Source: Pillow, ImageFilter.GaussianBlur.
    """
    box = _box_filter(_box_radius(sigma), images.shape[-1])
    gauss = torch.bmm(torch.bmm(box, box), box).to(images.dtype)
    across = torch.bmm(images.flatten(1, 2), gauss.transpose(1, 2))
    return _round(torch.matmul(gauss[:, None], _round(across).view_as(images)))


def _box_radius(sigma: Tensor) -> Tensor:
    """Radius of the box that, three times, gives a Gaussian; as Pillow's."""
    variance = sigma**2 / 3
    whole = torch.floor((torch.sqrt(12 * variance + 1) - 1) / 2)
    part = (
        (2 * whole + 1)
        * (whole * (whole + 1) - 3 * variance)
        / (6 * (variance - (whole + 1) ** 2))
    )
    return whole + part


def _box_filter(radius: Tensor, size: int) -> Tensor:
    """Means over 2 * radius + 1 pixels: (N,) -> (N, S, S).

    Pixels beyond the border are those of the border.
    """
    radius = radius.view(-1, 1, 1)
    place = torch.arange(size, device=radius.device)
    distance = (place[:, None] - place).abs()
    weights = (radius + 1 - distance).clamp(0, 1)
    beyond = (radius - place[:, None]).clamp(min=0)
    weights[..., :1] += beyond
    weights[..., -1:] += beyond.flip(1)
    return weights / (2 * radius + 1)


def _round(values: Tensor) -> Tensor:
    """Round to the nearest, in place; halves up, as Pillow does."""
    return values.add_(0.5).floor_()
