"""Each layer against the module that the benchmarks use, or the paper."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models import ImageClassifier, ResNet
from torch import nn

from swav_plugin.inference.layers import LAYERS, check_layer, compute_layer
from swav_plugin.models import MultiViewPreprocessor, ResNetWithStem, SwAV
from swav_plugin.models.feature_pooling import GRIDS, pick_feature
from swav_plugin.registry import MODELS

SMALL: dict[str, Any] = dict(depth=18, stem_channels=8, base_channels=8)


@torch.no_grad()
@pytest.mark.parametrize(
    ('size', 'windows'), [(224, 'mmselfsup'), (96, 'adaptive')]
)
def test_features_are_those_of_the_benchmarks(
    swav: SwAV, size: int, windows: str
) -> None:
    benchmark = ResNetWithStem(**SMALL)
    benchmark.load_state_dict(swav.backbone.state_dict())
    benchmark.eval()
    images = torch.randn(2, 3, size, size)
    outputs = benchmark(images)
    for layer in GRIDS:
        expected = pick_feature(benchmark, outputs, layer, windows)
        # Of a backbone with the stem as an output, and of one without.
        for backbone in (swav.backbone, benchmark):
            model: Any = ImageClassifier(backbone)
            found = compute_layer(model, images, layer)
            assert torch.equal(found, expected), layer


@torch.no_grad()
def test_networks_for_cifar_have_no_max_pooling() -> None:
    backbone = MODELS.build(dict(type='ResNet_CIFAR', **SMALL))
    model: Any = ImageClassifier(backbone).eval()
    images = torch.randn(2, 3, 32, 32)
    maps = backbone(images)[-1]
    expected = F.adaptive_avg_pool2d(maps, 2).flatten(1)
    assert torch.equal(compute_layer(model, images, 'feature5'), expected)


@torch.no_grad()
def test_embeddings_and_scores_are_the_papers(swav: SwAV) -> None:
    model: Any = MODELS.build(
        dict(
            type='SwAV',
            backbone=dict(type='ResNet', **SMALL),
            neck=dict(
                type='SwAVNeck', in_channels=64, hid_channels=0, out_channels=8
            ),
            head=dict(type='SwAVHead', num_prototypes=[5, 7]),
        )
    )
    model.double().eval()
    images = torch.randn(3, 3, 64, 64, dtype=torch.float64)
    pooled = model.backbone(images)[-1].mean((2, 3))
    weight, bias = model.neck.projection[0].parameters()
    embeddings = pooled @ weight.T + bias
    embeddings /= embeddings.square().sum(1, keepdim=True).sqrt()
    found = compute_layer(model, images, 'embedding')
    torch.testing.assert_close(found, embeddings, rtol=0, atol=1e-12)
    prototypes = torch.cat([each.weight for each in model.head.prototypes])
    prototypes = prototypes / prototypes.square().sum(1, keepdim=True).sqrt()
    scores = compute_layer(model, images, 'scores')
    assert scores.shape == (3, 12)
    torch.testing.assert_close(
        scores, embeddings @ prototypes.T, rtol=0, atol=1e-12
    )


def test_models_without_a_layer_are_told(swav: SwAV) -> None:
    for layer in LAYERS:
        check_layer(swav, layer)
    bare = ImageClassifier(ResNet(**SMALL)).eval()
    for layer in ('avgpool', *GRIDS):
        check_layer(bare, layer)
    for layer in ('embedding', 'scores'):
        with pytest.raises(
            ValueError, match=f"layer '{layer}' needs a SwAV .*ImageClassifie"
        ):
            check_layer(bare, layer)
    vector = nn.Module()
    vector.backbone = nn.Flatten()
    vector.data_preprocessor = MultiViewPreprocessor([0] * 3, [1] * 3)
    check_layer(vector.eval(), 'avgpool')
    with pytest.raises(ValueError, match='is of ResNets, .* is a Flatten'):
        check_layer(vector, 'feature3')
    with pytest.raises(ValueError, match="no layer 'neck'; .*embedding"):
        check_layer(swav, 'neck')
