"""Use a pretrained network from Python.

    from swav_plugin.apis import extract_features, get_model

    model = get_model('swav_resnet50_64xb64-mcrop-2-6-coslr-800e_in1k-224-96')
    features, files = extract_features(model, '/path/to/images')

Letters for shapes: N images of H x W pixels, C channels of the backbone.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.device import get_device
from mmpretrain.models import ImageClassifier, ResNet
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from swav_plugin.checkpoints import Checkpoint, load_backbone
from swav_plugin.checkpoints.keys import backbone_weights
from swav_plugin.datasets.image_folder import find_images
from swav_plugin.datasets.transforms.pillow_files import to_rgb
from swav_plugin.models import MultiViewPreprocessor
from swav_plugin.models.feature_pooling import pick_feature
from swav_plugin.models.resnet import resnet_arguments
from swav_plugin.registry import build_transforms

# SwAV's: red has 0.228 * 255 where torchvision has 0.229 * 255.
_MEAN = (123.675, 116.28, 103.53)
_STD = (58.14, 57.12, 57.375)

ImageSource = str | os.PathLike | Image.Image | np.ndarray


class ImageFeatures(NamedTuple):
    """Features of N images and where each image came from.

    Attributes:
        features: (N, C) float32, on the CPU.
        files: N paths; '' for an image that did not come from a file.
    """

    features: Tensor
    files: list[str]


def get_model(
    checkpoint: str | Path, device: str | torch.device | None = None
) -> ImageClassifier:
    """Build the ResNet of a checkpoint and fill it with its weights.

    Depth and width are read from the weights. Only the backbone is loaded:
    a projection head, prototypes or a classifier in the file are ignored.

    Args:
        checkpoint: A file, a URL, or the name of a model in ``metafile.yml``.
            Any SwAV layout: ours, upstream's, mmselfsup's, mmpretrain's, or a
            bare backbone such as torchvision's.
        device: Where to put the model; by default the GPU, or the CPU if
            there is none.

    Returns:
        A model in eval mode with a `backbone`, which maps normalized images
        (N, 3, H, W) to a tuple whose last element is (N, C, H / 32, W / 32),
        and a `data_preprocessor`, which normalizes.

    Raises:
        FileNotFoundError: There is no such file, nor a model of that name.
        ConnectionError: The checkpoint could not be downloaded.
        ValueError: The file does not hold the weights of a ResNet with depth
            18, 34, 50, 101 or 152 and ImageNet's stem, or is not safe to
            load.
    """
    source = Checkpoint(checkpoint)
    weights = backbone_weights(source.weights)
    try:
        arguments = resnet_arguments(weights)
        backbone = ResNet(norm_cfg=dict(type='BN'), **arguments)
        load_backbone(backbone, source)
    except ValueError as error:
        raise ValueError(
            f'get_model cannot use {checkpoint}: {error} So far it builds '
            'ResNets with the 7x7 stem of ImageNet. For any other network '
            'build the model of its config and fill it with '
            'swav_plugin.checkpoints.load_model; extract_features takes it.'
        ) from error
    model = ImageClassifier(
        backbone, data_preprocessor=MultiViewPreprocessor(_MEAN, _STD)
    )
    return model.to(device or get_device()).eval()


@torch.no_grad()
def extract_features(
    model: nn.Module,
    images: ImageSource | Sequence[ImageSource],
    batch_size: int = 64,
    image_size: int = 224,
    num_workers: int = 0,
) -> ImageFeatures:
    """Compute the average-pooled backbone features of images.

    Images are loaded as in the kNN benchmark: converted to RGB, the short
    edge resized to 8/7 of `image_size` (256 px for 224), then center-cropped.
    All features are kept in memory: 8 KB per image for a ResNet-50.

    Args:
        model: From `get_model`, or any model in eval mode with a `backbone`
            and a `data_preprocessor`, such as a `SwAV`.
        images: A folder, which is searched at any depth; an image file; a PIL
            image; an (H, W, 3) uint8 RGB array; or a list of files, PIL
            images and arrays.
        batch_size: Images per forward pass.
        image_size: Height and width of the crop in pixels.
        num_workers: Processes that load images; 0 to load them in this one.

    Returns:
        Features (N, C) and the N file names, in the order of the list; for a
        folder sorted by path.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        RuntimeError: An image cannot be read; the message names the file.
        ValueError: There are no images, an array is not (H, W, 3) uint8, or
            the model is in training mode.
        TypeError: An element of `images` is something else.
    """
    if model.training:
        raise ValueError(
            'the model is in training mode, where batch norm mixes the images '
            'of a batch; call model.eval() first.'
        )
    samples = _list_samples(images)
    loader = DataLoader(
        _Images(samples, image_size), batch_size, num_workers=num_workers
    )
    backbone: Any = model.backbone
    preprocess: Any = model.data_preprocessor
    features = []
    for batch in loader:
        outputs = backbone(preprocess(dict(inputs=batch))['inputs'])
        pooled = pick_feature(backbone, outputs, 'avgpool', 'adaptive')
        features.append(pooled.float().cpu())
    files = [sample.get('img_path', '') for sample in samples]
    return ImageFeatures(torch.cat(features), files)


class _Images(Dataset):
    """Resized, center-cropped images: (3, image_size, image_size) uint8."""

    def __init__(self, samples: list[dict], image_size: int) -> None:
        self.samples = samples
        self.pipeline: Callable[[dict], Any] = Compose(
            build_transforms(
                [
                    dict(type='LoadImage'),
                    dict(
                        type='ResizeEdge',
                        scale=round(image_size * 256 / 224),
                        edge='short',
                        backend='pillow',
                    ),
                    dict(type='CenterCrop', crop_size=image_size),
                    dict(type='PackViews'),
                ]
            )
        )

    def __getitem__(self, index: int) -> Tensor:
        sample = dict(self.samples[index])
        if isinstance(sample.get('img'), Image.Image):
            sample['img'] = np.asarray(to_rgb(sample['img']))
        return self.pipeline(sample)['inputs']

    def __len__(self) -> int:
        return len(self.samples)


def _list_samples(
    images: ImageSource | Sequence[ImageSource],
) -> list[dict[str, Any]]:
    """Turn what the caller gave into dicts with 'img_path' or 'img'."""
    if isinstance(images, (str, os.PathLike)) and os.path.isdir(images):
        folder = os.fspath(images)
        images = [os.path.join(folder, file) for file in find_images(folder)]
    elif isinstance(images, (str, os.PathLike, Image.Image)) or (
        isinstance(images, np.ndarray) and images.ndim == 3
    ):
        images = [images]
    samples = [_as_sample(image, index) for index, image in enumerate(images)]
    if not samples:
        raise ValueError('extract_features got an empty list of images.')
    return samples


def _as_sample(image: ImageSource, index: int) -> dict[str, Any]:
    """Check one image and put it under the key that `LoadImage` looks for."""
    if isinstance(image, (str, os.PathLike)):
        path = os.fspath(image)
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f'there is no image {path}; give a folder, files, PIL images '
                'or arrays.'
            )
        return dict(img_path=path)
    if isinstance(image, Image.Image):
        return dict(img=image)
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f'image {index} is a {type(image).__name__}; extract_features '
            'takes file names, PIL images and (H, W, 3) uint8 arrays.'
        )
    if (
        image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[2] != 3
        or not image.size
    ):
        raise ValueError(
            f'image {index} is an array of shape {image.shape} and type '
            f'{image.dtype}; expected (H, W, 3) and uint8, in RGB order.'
        )
    return dict(img=image)
