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
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from swav_plugin.checkpoints import RANDOM, Checkpoint
from swav_plugin.checkpoints.describe import describe_checkpoint
from swav_plugin.checkpoints.file_kind import CheckpointError
from swav_plugin.checkpoints.zoo import find_model, find_models
from swav_plugin.datasets.image_folder import find_images
from swav_plugin.datasets.transforms.pillow_files import to_rgb
from swav_plugin.engine.config import check_has, load_config
from swav_plugin.models.feature_pooling import pick_feature
from swav_plugin.models.pretrained import model_of_checkpoint, model_of_config
from swav_plugin.registry import build_transforms

ImageSource = str | os.PathLike | Image.Image | np.ndarray


class ImageFeatures(NamedTuple):
    """Features of N images and where each image came from.

    Attributes:
        features: (N, C) float32, on the CPU.
        files: N paths; '' for an image that did not come from a file.
    """

    features: Tensor
    files: list[str]


def list_models(pattern: str = '*', pretrained: bool = True) -> list[str]:
    """List the models of the zoo.

    Args:
        pattern: As for files, such as 'swav_resnet50_*_vissl'.
        pretrained: Only those whose weights somebody has published.

    >>> list_models('*-w4_*')[0]
    'swav_resnet50-w4_64xb40-mcrop-2-4-coslr-400e_in1k-224-96'
    """
    return [*find_models(pattern, pretrained)]


def get_model(
    model: str | Path,
    device: str | torch.device | None = None,
    *,
    pretrained: bool = True,
    checkpoint: str | Path | None = None,
) -> nn.Module:
    """Build a model and fill it with weights.

        get_model('swav_resnet50_64xb64-mcrop-2-6-coslr-800e_in1k-224-96')
        get_model('work_dirs/mine/epoch_200.pth')
        get_model('my_config.py', checkpoint='work_dirs/mine/epoch_200.pth')
        get_model('my_config.py', pretrained=False)  # random weights

    Without a config the network is read from the weights: a ResNet of depth
    18, 34, 50, 101 or 152, of any width, with the stem of ImageNet (7x7) or
    that of CIFAR (3x3, no max-pooling). A config in the file is never used:
    it would run code of whoever wrote the file.

    Args:
        model: The name of a model of the zoo; a file or URL with weights, in
            any layout of `swav_plugin.checkpoints.keys`; or a config file.
        device: Where to put the model; by default the GPU, or the CPU if
            there is none.
        pretrained: False for a network as it is before any training; needs a
            config, or the name of a model that has one.
        checkpoint: Weights for the model of the config: a file, a URL or a
            name of the zoo.

    Returns:
        A model in eval mode with a `backbone`, which maps normalized images
        (N, 3, H, W) to a tuple whose last element is (N, C, H / 32, W / 32),
        and a `data_preprocessor`, which normalizes. Without a config it is a
        `SwAV` if the file has projection and prototypes, else an
        `ImageClassifier` without a head; with one, the model of the config.

    Raises:
        FileNotFoundError: There is no such file, nor a model of that name.
        ConnectionError: The checkpoint could not be downloaded.
        ValueError: The arguments contradict each other, or the file does not
            hold the weights of such a network, or is not safe to load.
    """
    source = os.fspath(model)
    wants_config = not pretrained or checkpoint is not None
    if not pretrained and checkpoint is not None:
        raise ValueError(
            f'get_model got pretrained=False and checkpoint={checkpoint}; '
            'give one of them.'
        )
    if Path(source).suffix in ('.py', '.json', '.yml', '.yaml'):
        if not wants_config:
            raise ValueError(
                f'get_model got the config {source} without weights; add '
                'checkpoint=FILE, or pretrained=False for random weights.'
            )
        built = _build_config(source, checkpoint)
    elif wants_config:
        built = _build_config(_config_of_name(source), checkpoint)
    else:
        built = _build_checkpoint(source)
    return built.to(device or get_device()).eval()


def _build_config(config: str, checkpoint: str | Path | None) -> nn.Module:
    """Build the model of a config; None for random weights."""
    cfg = load_config(config)
    check_has(cfg, 'model')
    weights = RANDOM if checkpoint is None else os.fspath(checkpoint)
    return model_of_config(cfg, weights)


def _config_of_name(source: str) -> str:
    """Return the config of a model of the zoo.

    Raises:
        FileNotFoundError, ValueError: There is none.
    """
    if os.path.isfile(source) or '://' in source:
        raise ValueError(
            f'get_model got {source}, which holds weights, together with '
            'checkpoint= or pretrained=False; these go with a config.'
        )
    config = find_model(source).config
    if config is None:
        raise ValueError(
            f'there is no config of {source} here, only weights; call '
            f'get_model({source!r}) alone, or give a config.'
        )
    return str(config)


def _build_checkpoint(source: str) -> nn.Module:
    """Build the model that weights belong to."""
    checkpoint = Checkpoint(source)
    checkpoint.weights  # here, so that its errors keep their words
    try:
        return model_of_checkpoint(checkpoint)
    except CheckpointError:
        raise
    except ValueError as error:
        configs = sorted(checkpoint.path.parent.glob('*.py'))
        config = repr(str(configs[0])) if len(configs) == 1 else 'CONFIG'
        raise ValueError(
            f'get_model cannot use {source}, '
            f'{describe_checkpoint(checkpoint)}: {error} Without a config '
            'it builds ResNets; with the config of this network: '
            f'get_model({config}, checkpoint={source!r})'
        ) from error


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
