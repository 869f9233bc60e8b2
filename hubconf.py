"""Entry points of torch.hub.

    torch.hub.load(REPOSITORY, 'resnet50')  # torchvision's class
    torch.hub.load(REPOSITORY, 'swav_resnet50_64xb64-mcrop-2-6-coslr-800e_...')

`resnet50`, `resnet50w2`, `resnet50w4` and `resnet50w5` have upstream's names
and weights. The names of the zoo (`swav zoo list`) give what
`swav_plugin.apis.get_model` gives.
"""

import functools as _functools
from typing import Any as _Any

import torch as _torch
import torchvision as _torchvision

from swav_plugin.checkpoints import Checkpoint as _Checkpoint
from swav_plugin.checkpoints.catalog import zoo_models as _zoo_models
from swav_plugin.checkpoints.load import load_backbone as _load_backbone

dependencies = ['torch', 'torchvision', 'mmengine', 'mmcv', 'mmpretrain']


class _ResNet(_torchvision.models.ResNet):
    """torchvision's ResNet-50, `width` times as wide, without a classifier.

    It maps normalized images (N, 3, H, W) to features (N, 2048 * width).
    """

    def __init__(self, width: int) -> None:
        self.width = width
        block = _torchvision.models.resnet.Bottleneck
        super().__init__(block, [3, 4, 6, 3])
        self.conv1 = _torch.nn.Conv2d(3, 64 * width, 7, 2, 3, bias=False)
        self.bn1 = _torch.nn.BatchNorm2d(64 * width)
        # What a classifier would be put in place of.
        self.fc = _torch.nn.Identity()

    def _make_layer(
        self, block: type, planes: int, *args: _Any, **kwargs: _Any
    ) -> _torch.nn.Sequential:
        if planes == 64:  # the first stage, whose input is the stem's output
            self.inplanes = 64 * self.width
        return super()._make_layer(block, planes * self.width, *args, **kwargs)


def _resnet50(width: int, name: str, pretrained: bool) -> _ResNet:
    model = _ResNet(width)
    if pretrained:
        _load_backbone(model, _Checkpoint(name))
    return model


def resnet50(pretrained: bool = True) -> _ResNet:
    """Return torchvision's ResNet-50 with SwAV's weights (800 epochs, 75.3).

    `fc` is an identity, so the model gives the (N, 2048) features; put a
    classifier there. Upstream's own entry has a random one in that place.

    Args:
        pretrained: False for random weights.
    """
    name = 'swav_resnet50_64xb64-mcrop-2-6-coslr-800e_in1k-224-96'
    return _resnet50(1, name, pretrained)


def resnet50w2(pretrained: bool = True) -> _ResNet:
    """Return a ResNet-50 twice as wide (77.3): (N, 4096) features."""
    name = 'swav_resnet50-w2_128xb32-mcrop-2-4-coslr-400e_in1k-224-96'
    return _resnet50(2, name, pretrained)


def resnet50w4(pretrained: bool = True) -> _ResNet:
    """Return a ResNet-50 four times as wide (77.9): (N, 8192) features."""
    name = 'swav_resnet50-w4_64xb40-mcrop-2-4-coslr-400e_in1k-224-96'
    return _resnet50(4, name, pretrained)


def resnet50w5(pretrained: bool = True) -> _ResNet:
    """Return a ResNet-50 five times as wide (78.5): (N, 10240) features."""
    name = 'swav_resnet50-w5_128xb12-mcrop-2-4-coslr-400e_in1k-224-96'
    return _resnet50(5, name, pretrained)


def _of_zoo(_name: str, pretrained: bool = True) -> _torch.nn.Module:
    """Return `swav_plugin.apis.get_model(NAME)`, on the CPU."""
    from swav_plugin.apis import get_model

    return get_model(_name, 'cpu', pretrained=pretrained)


for _name in _zoo_models():
    _entry = _functools.partial(_of_zoo, _name)
    _functools.update_wrapper(_entry, _of_zoo)
    globals()[_name] = _entry
