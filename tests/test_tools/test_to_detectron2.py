"""to_detectron2.py against a table of detectron2's names."""

import importlib.util
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from swav_plugin.models import ResNetWithStem
from tests.conftest import REPO_ROOT

NORM = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')


def layers_of(blocks: list[int], num_convs: int) -> dict[str, str]:
    """Convolutions of detectron2's ResNet, and of torchvision's.

    Written down from the modules of both, not from the converter.
    """
    layers = {'stem.conv1': 'conv1'}
    for stage, count in enumerate(blocks, start=1):
        for block in range(count):
            theirs, ours = f'res{stage + 1}.{block}', f'layer{stage}.{block}'
            for conv in range(1, num_convs + 1):
                layers[f'{theirs}.conv{conv}'] = f'{ours}.conv{conv}'
            if block == 0 and (stage > 1 or num_convs == 3):
                layers[f'{theirs}.shortcut'] = f'{ours}.downsample.0'
    return layers


def tensors_of(layers: dict[str, str]) -> dict[str, str]:
    """The tensors of convolutions and their norms."""
    names = {}
    for theirs, ours in layers.items():
        norm = (
            ours[:-1] + '1'
            if 'downsample' in ours
            else (ours.replace('conv', 'bn'))
        )
        names[f'{theirs}.weight'] = f'{ours}.weight'
        for name in NORM:
            names[f'{theirs}.norm.{name}'] = f'{norm}.{name}'
    return names


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable:
    """Run the command on weights; gives what is in the pickle."""
    spec = importlib.util.spec_from_file_location(
        'to_detectron2', REPO_ROOT / 'tools/model_converters/to_detectron2.py'
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def convert(weights: dict[str, torch.Tensor]) -> dict:
        torch.save(weights, tmp_path / 'in.pth')
        monkeypatch.setattr(
            sys,
            'argv',
            [
                'to_detectron2.py',
                str(tmp_path / 'in.pth'),
                str(tmp_path / 'new/out.pkl'),
            ],
        )
        module.main()
        # As detectron2 reads it.
        content = (tmp_path / 'new/out.pkl').read_bytes()
        # Another NumPy keeps what makes its arrays elsewhere.
        assert b'multiarray' not in content
        return pickle.loads(content, encoding='latin1')

    return convert


def randomized(model: nn.Module) -> dict[str, torch.Tensor]:
    """Tensors that differ from each other, counters too."""
    torch.manual_seed(0)
    return {
        key: torch.rand_like(value)
        if value.is_floating_point()
        else torch.randint(100, value.shape)
        for key, value in model.state_dict().items()
    }


@pytest.mark.parametrize(
    'depth, blocks, num_convs',
    [(50, [3, 4, 6, 3], 3), (18, [2, 2, 2, 2], 2), (101, [3, 4, 23, 3], 3)],
)
@pytest.mark.parametrize('layout', ['backbone.{}', 'module.{}', '{}'])
def test_every_tensor(
    run: Callable, depth: int, blocks: list[int], num_convs: int, layout: str
) -> None:
    weights = randomized(
        ResNetWithStem(depth, stem_channels=8, base_channels=8)
    )
    others = (
        {'fc.weight': torch.rand(3, 2)}
        if layout == '{}'
        else {
            layout.format('prototypes.weight').replace(
                'backbone.', 'head.'
            ): torch.rand(3, 2)
        }
    )
    content = run(
        {
            **{layout.format(key): value for key, value in weights.items()},
            **others,
        }
    )
    assert content['matching_heuristics'] is True
    names = tensors_of(layers_of(blocks, num_convs))
    assert content['model'].keys() == names.keys()
    assert set(names.values()) == set(weights)
    for theirs, ours in names.items():
        value = content['model'][theirs]
        assert type(value) is np.ndarray and value.flags.writeable
        assert value.dtype == weights[ours].numpy().dtype
        np.testing.assert_array_equal(value, weights[ours].numpy())


def test_counts_of_resnet50(run: Callable) -> None:
    model = run(ResNetWithStem(50).state_dict())['model']
    # 53 convolutions; shapes as in detectron2's R_50 models.
    assert len(model) == 53 * 6
    shapes = {
        key: model[key].shape
        for key in (
            'stem.conv1.weight',
            'res2.0.shortcut.weight',
            'res3.0.conv2.weight',
            'res5.2.conv3.weight',
            'res5.2.conv3.norm.running_var',
        )
    }
    assert shapes == {
        'stem.conv1.weight': (64, 3, 7, 7),
        'res2.0.shortcut.weight': (256, 64, 1, 1),
        'res3.0.conv2.weight': (128, 128, 3, 3),
        'res5.2.conv3.weight': (2048, 512, 1, 1),
        'res5.2.conv3.norm.running_var': (2048,),
    }


def test_other_networks_are_refused(
    run: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for weights, message in (
        (
            {'head.weight': torch.rand(2)},
            'no backbone that is a ResNet of four stages: it is an unknown '
            'network (head.weight, ...); give a ResNet.',
        ),
        (
            ResNetWithStem(
                18, stem_channels=8, base_channels=8, deep_stem=True
            ).state_dict(),
            'stem.0.conv.weight is not in a ResNet with a plain stem.',
        ),
        (
            {'layer4.0.conv1.weight': torch.tensor([1.0, torch.nan])},
            'layer4.0.conv1.weight is not finite: 1 of its 2 values are '
            'infinite or not a number. The run that wrote it had '
            'diverged; give an earlier checkpoint.',
        ),
    ):
        with pytest.raises(SystemExit) as caught:
            run(weights)
        assert caught.value.code == 2
        assert capsys.readouterr().err.strip().endswith(message)
    assert not (tmp_path / 'new').exists()
