"""Use a pretrained network from Python.

    from swav_plugin.apis import extract_features, get_model

    model = get_model('swav_resnet50_64xb64-mcrop-2-6-coslr-800e_in1k-224-96')
    features, files = extract_features(model, '/path/to/images')

Letters for shapes: N images of H x W pixels, C channels of the backbone.
"""

from pathlib import Path

import torch
from mmengine.device import get_device
from mmpretrain.models import ImageClassifier, ResNet

from swav_plugin.checkpoints import Checkpoint, load_backbone
from swav_plugin.checkpoints.keys import backbone_weights
from swav_plugin.inference.clusters import Clusters, assign_clusters
from swav_plugin.inference.features import ImageFeatures, extract_features
from swav_plugin.models import MultiViewPreprocessor
from swav_plugin.models.resnet import resnet_arguments

__all__ = [
    'Clusters',
    'ImageFeatures',
    'assign_clusters',
    'extract_features',
    'get_model',
]

# SwAV's: red has 0.228 * 255 where torchvision has 0.229 * 255.
_MEAN = (123.675, 116.28, 103.53)
_STD = (58.14, 57.12, 57.375)


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
