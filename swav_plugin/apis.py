"""Use a pretrained network from Python.

    from swav_plugin.apis import extract_features, get_model

    model = get_model('swav_resnet50_64xb64-mcrop-2-6-coslr-800e_in1k-224-96')
    features, files = extract_features(model, '/path/to/images')

Letters for shapes: N images of H x W pixels, C channels of the backbone.
"""

import os
from pathlib import Path

import torch
from mmengine.device import get_device
from torch import nn

from swav_plugin.checkpoints import RANDOM, Checkpoint, describe_checkpoint
from swav_plugin.checkpoints.catalog import find_model, find_models
from swav_plugin.checkpoints.file_kind import CheckpointError
from swav_plugin.engine.config import check_has, load_config
from swav_plugin.inference.clusters import Clusters, assign_clusters
from swav_plugin.inference.features import (
    ImageFeatures,
    extract_features,
    read_features,
)
from swav_plugin.models.pretrained import model_of_checkpoint, model_of_config
from swav_plugin.shipped import config_names

__all__ = [
    'Clusters',
    'ImageFeatures',
    'assign_clusters',
    'extract_features',
    'get_model',
    'list_models',
    'read_features',
]


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
    model: str | Path | Checkpoint,
    device: str | torch.device | None = None,
    *,
    pretrained: bool = True,
    checkpoint: str | Path | Checkpoint | None = None,
) -> nn.Module:
    """Build a model and fill it with weights.

        get_model('swav_resnet50_64xb64-mcrop-2-6-coslr-800e_in1k-224-96')
        get_model('work_dirs/mine/epoch_200.pth')
        get_model('my_config.py', checkpoint='work_dirs/mine/epoch_200.pth')
        get_model('my_config.py', pretrained=False)  # random weights

    Without a config the network is read from the weights: a ResNet of depth
    18, 34, 50, 101 or 152, of any width, with the stem of ImageNet (7x7) or
    that of CIFAR (3x3, no max-pooling). How images are prepared, and codes
    computed, is read from the numbers that our training notes in its
    checkpoints; in other files it is as in SwAV on ImageNet, and a line in
    the log says so. A config in the file is never used: it would run code of
    whoever wrote the file.

    Args:
        model: The name of a model of the zoo; a file or URL with weights, in
            any layout of `swav_plugin.checkpoints.keys`; a `Checkpoint` of
            one, which is not read again; or a config file.
        device: Where to put the model; by default the GPU, or the CPU if
            there is none.
        pretrained: False for a network as it is before any training; needs a
            config, or the name of a model that has one.
        checkpoint: Weights for the model of the config: a file, a URL or a
            name of the zoo.

    Returns:
        A model in eval mode with a `backbone`, which maps normalized images
        (N, 3, H, W) to a tuple whose last element is (N, C, H / 32, W / 32),
        and a `data_preprocessor`, which normalizes RGB images in 0..255.
        `model_settings` has their size. Without a config it is a
        `SwAV` if the file has projection and prototypes, else an
        `ImageClassifier` without a head; with one, the model of the config.

    Raises:
        FileNotFoundError: There is no such file, nor a model of that name.
        ConnectionError: The checkpoint could not be downloaded.
        ValueError: The arguments contradict each other, or the file does not
            hold the weights of such a network, or is not safe to load.
    """
    source = str(model)
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
        built = _build_checkpoint(
            model if isinstance(model, Checkpoint) else Checkpoint(source)
        )
    return built.to(device or get_device()).eval()


def _build_config(
    config: str, checkpoint: str | Path | Checkpoint | None
) -> nn.Module:
    """Build the model of a config; None for random weights."""
    cfg = load_config(config)
    check_has(cfg, 'model')
    if checkpoint is None:
        checkpoint = RANDOM
    elif not isinstance(checkpoint, Checkpoint):
        checkpoint = os.fspath(checkpoint)
    return model_of_config(cfg, checkpoint)


def _config_of_name(source: str) -> str:
    """Return the config of a name: one that is shipped, or of the zoo.

    Raises:
        FileNotFoundError, ValueError: There is none.
    """
    if os.path.isfile(source) or '://' in source:
        raise ValueError(
            f'get_model got {source}, which holds weights, together with '
            'checkpoint= or pretrained=False; these go with a config.'
        )
    named = config_names()
    config = named.get(source) or find_model(source).config
    if config is None:
        raise ValueError(
            f'there is no config of {source} here, only weights; call '
            f'get_model({source!r}) alone, or give a config.'
        )
    return str(config)


def _build_checkpoint(checkpoint: Checkpoint) -> nn.Module:
    """Build the model that weights belong to."""
    source = checkpoint.source
    checkpoint.weights  # here, so that its errors keep their words
    try:
        return model_of_checkpoint(checkpoint)
    except CheckpointError:
        raise
    except ValueError as error:
        configs = sorted(checkpoint.path.parent.glob('*.py'))
        config = repr(str(configs[0])) if len(configs) == 1 else 'CONFIG'
        raise ValueError(
            f'{source} is {describe_checkpoint(checkpoint)}: {error} Only '
            'ResNets are built without a config; give that of this network: '
            f'--config {config}, or in Python '
            f'get_model({config}, checkpoint={source!r})'
        ) from error
