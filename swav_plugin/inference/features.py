"""Compute features of images with a pretrained network.

Letters for shapes: N images, C channels of a feature, D embedding size, K
prototypes.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import torch
from torch import Tensor, nn

from swav_plugin.compat.moved import renamed_arguments
from swav_plugin.datasets.transforms.loading import UnreadableImage

from .batches import (
    Extraction,
    check_unreadable,
    files_of,
    log_unreadable,
    run_batches,
)
from .files import ImageFeatures, check_out, read_features
from .images import Images, file_of, list_images
from .layers import LAYERS, check_layer
from .parts import fill_parts, open_parts, put_together
from .progress import Progress

__all__ = ['LAYERS', 'ImageFeatures', 'extract_features', 'read_features']


@renamed_arguments(image_size='size')
def extract_features(
    model: nn.Module,
    images: Images,
    layer: str = 'avgpool',
    size: int | None = None,
    batch_size: int = 64,
    num_workers: int | None = None,
    out: str | os.PathLike | None = None,
    progress: bool = False,
    amp: bool = False,
    skip_unreadable: bool = False,
    overwrite: bool = False,
) -> ImageFeatures:
    """Compute features of images.

    Images are prepared as in the validation of the training, which its
    checkpoints state; else as in the kNN benchmark: converted to RGB, the
    short edge resized to 256 px, then center-cropped to 224.

    Args:
        model: From `get_model`, or any model in eval mode with a `backbone`
            and a `data_preprocessor`, such as a `SwAV`.
        images: A folder, which is searched at any depth; an image file; a
            pattern such as ``'a/**/*.jpg'``; a .txt list of files; a PIL
            image; an (H, W, 3) uint8 RGB array; or a list of these.
        layer: 'avgpool', the averaged output of the backbone, C = 2,048 for a
            ResNet-50; 'feature1' to 'feature5', the stem and the stages of a
            ResNet, averaged over windows as in the benchmarks; of a `SwAV`
            also 'embedding', (N, D) of unit norm, and 'scores', (N, K)
            cosines with the prototypes, one set after another.
        size: Height and width of the crop in pixels, if not the model's own;
            the short edge changes in proportion.
        batch_size: Images per forward pass.
        num_workers: Processes that load images; 0 to load them in this one.
            By default 0 for few images or on a small CPU, up to 16 beside
            a GPU.
        out: Write features to this .npy, .safetensors or .parquet file, and
            keep no more than a few batches in memory. The same call goes on
            where an earlier one ended. Names of images are in the table of
            .parquet, and in a .txt file beside the others.
        progress: Show how far it is on standard error.
        amp: Run the network in half precision: float16 on a GPU, bfloat16 on
            a CPU.
        skip_unreadable: Leave out images that cannot be read, and log them,
            in place of an error; more than a tenth are an error all the same.
        overwrite: Replace `out` if it exists.

    Returns:
        Features (N, C) and the N file names, in the order of the list; those
        of a folder or a pattern are sorted by path.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        UnreadableImage: An image cannot be read; the message names the file.
        ValueError: `out` exists or cannot be written, there are no images,
            an array is not (H, W, 3) uint8, a number is out of range, the
            model lacks the layer or is in training mode, or features are not
            finite.
        TypeError: An element of `images` is something else.
    """
    check_layer(model, layer)
    job = Extraction(
        list_images(images), layer, size, batch_size, amp, skip_unreadable
    )
    path = None if out is None else Path(out)
    with ExitStack() as stack:
        if path is not None:
            check_out(path, [*map(file_of, job.samples)], overwrite, images)
            parts = stack.enter_context(
                open_parts(path, model, job, overwrite)
            )
        shown = stack.enter_context(
            closing(Progress(len(job.samples), is_silent=not progress))
        )
        if path is not None:
            shown.skip(parts.num_done())
            fill_parts(model, parts, shown.advance, num_workers)
            unreadable = put_together(parts, path)
            parts.remove()
            result = read_features(path)
        else:
            result, unreadable = _in_memory(
                model, job, shown.advance, num_workers
            )
    log_unreadable(job, unreadable)
    return result


def _in_memory(
    model: nn.Module,
    job: Extraction,
    advance: Callable[[int], None],
    num_workers: int | None,
) -> tuple[ImageFeatures, dict[int, UnreadableImage]]:
    """Compute all features; also return what could not be read."""
    rows: list[Tensor] = []
    unreadable: dict[int, UnreadableImage] = {}
    for batch, features in run_batches(model, job, job.batches(), num_workers):
        if len(features):
            rows.append(features.cpu())
        unreadable.update(batch.unreadable)
        check_unreadable(job, unreadable)
        advance(len(batch.indices))
    return ImageFeatures(
        torch.cat(rows), files_of(job, unreadable)
    ), unreadable
