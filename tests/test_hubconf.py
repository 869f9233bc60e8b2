"""torch.hub.load from a checkout, against torchvision and mmpretrain."""

from pathlib import Path

import mmpretrain
import pytest
import torch
import torchvision

import hubconf
from swav_plugin.checkpoints import zoo
from swav_plugin.models import SwAV
from tests.conftest import REPO_ROOT

NAME = 'swav_resnet50_64xb64-mcrop-2-6-coslr-800e_in1k-224-96'


def hub(name: str, **kwargs: object) -> torch.nn.Module:
    return torch.hub.load(str(REPO_ROOT), name, source='local', **kwargs)


def test_resnet50_is_torchvisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet50().eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 1.5)
    weights = {f'module.{k}': v for k, v in theirs.state_dict().items()}
    torch.save(weights, tmp_path / 'w.pth.tar')
    asked = []

    def download(url: str, **kwargs: object) -> Path:
        asked.append(url)
        return tmp_path / 'w.pth.tar'

    monkeypatch.setattr(zoo, 'download', download)
    monkeypatch.setattr(zoo, '_check_holds', lambda *_: None)
    model = hub('resnet50').eval()
    assert asked == [zoo.find_model(NAME).url]
    assert isinstance(model, torchvision.models.ResNet)
    theirs.fc = torch.nn.Identity()
    assert [*model.state_dict()] == [*theirs.state_dict()]
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, found = theirs(images), model(images)
    assert expected.shape == (2, 2048) and expected.std() > 1e-3
    assert torch.equal(expected, found)


def test_wide_networks_are_upstreams() -> None:
    """All channels are doubled, which torchvision's wide_resnet does not."""
    model = hub('resnet50w2', pretrained=False).eval()
    reference = mmpretrain.models.ResNet(
        50, base_channels=128, stem_channels=128
    )
    reference.load_state_dict(model.state_dict())
    reference.eval()  # returns None
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = reference(images)[0].mean((2, 3))
        found = model(images)
    assert found.shape == (1, 4096)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_names_of_the_zoo() -> None:
    entries = {  # as torch.hub.list
        name: value
        for name, value in vars(hubconf).items()
        if callable(value) and not name.startswith('_')
    }
    upstreams = {'resnet50', 'resnet50w2', 'resnet50w4', 'resnet50w5'}
    assert {*entries} == {*zoo.zoo_models()} | upstreams
    assert all(value.__doc__ for value in entries.values())
    model = hub(NAME, pretrained=False)
    assert isinstance(model, SwAV) and not model.training
