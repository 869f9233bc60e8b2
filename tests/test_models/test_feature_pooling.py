"""Outputs of any backbone; mmselfsup's windows, against sums over slices."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from swav_plugin.models.feature_pooling import (
    GRIDS,
    MMSELFSUP_WINDOWS,
    check_windows,
    pool_feature,
    pool_output,
)
from swav_plugin.registry import MODELS

# Size, kernel, stride, padding, windows to a side: mmselfsup's table, by hand.
TABLE = [
    ('feature1', 112, 10, 10, 4, 12),
    ('feature2', 56, 16, 8, 0, 6),
    ('feature3', 28, 13, 5, 0, 4),
    ('feature4', 14, 8, 3, 0, 3),
    ('feature5', 7, 6, 1, 0, 2),
]


@pytest.mark.parametrize('name, size, kernel, stride, padding, grid', TABLE)
def test_windows_are_mmselfsups(
    name: str, size: int, kernel: int, stride: int, padding: int, grid: int
) -> None:
    maps = np.random.default_rng(0).normal(size=(2, 3, size, size))
    padded = np.pad(maps, [(0, 0)] * 2 + [(padding, padding)] * 2)
    expected = np.zeros((2, 3, grid, grid))
    for row in range(grid):
        for column in range(grid):
            top, left = row * stride, column * stride
            window = padded[..., top : top + kernel, left : left + kernel]
            assert window.shape[2:] == (kernel, kernel)
            # Zeros of the padding count.
            expected[..., row, column] = window.mean((2, 3))
    pooled = pool_feature(torch.tensor(maps), name)
    np.testing.assert_allclose(pooled.numpy(), expected.reshape(2, -1))
    assert GRIDS[name] == grid


def test_widths_of_resnet50() -> None:
    channels = (64, 256, 512, 1024, 2048)
    widths = [
        pool_feature(torch.zeros(1, c, size, size), name).shape[1]
        for c, (name, (size, *_)) in zip(channels, MMSELFSUP_WINDOWS.items())
    ]
    assert widths == [9216, 9216, 8192, 9216, 8192]


def test_a_grid_fits_any_map() -> None:
    maps = torch.arange(24.0).view(1, 1, 4, 6)
    assert pool_feature(maps, 'feature5', grid=2).tolist() == [
        [
            maps[0, 0, :2, :3].mean(),
            maps[0, 0, :2, 3:].mean(),
            maps[0, 0, 2:, :3].mean(),
            maps[0, 0, 2:, 3:].mean(),
        ]
    ]


def test_another_size_of_image_is_refused() -> None:
    with pytest.raises(ValueError, match='feature5 is 5x5.*are for 7x7'):
        pool_feature(torch.zeros(1, 2, 5, 5), 'feature5')


def test_the_old_name_of_windows_goes_on_working() -> None:
    with pytest.warns(FutureWarning, match="'page' is now 'mmselfsup'"):
        assert check_windows('page') == 'mmselfsup'
    with pytest.raises(ValueError, match="windows='some'; use 'mmselfsup' or"):
        check_windows('some')


TINY = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)


def run(**config: Any) -> tuple[Any, Any]:
    """Build a backbone with random weights; return it and its output."""
    torch.manual_seed(0)
    backbone = MODELS.build(config)
    backbone.init_weights()
    backbone.eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        return backbone, backbone(images)


def tokens_of(kind: str, **config: Any) -> tuple[Tensor, Tensor]:
    """Return what a ViT's output of a kind is pooled to, and its tokens."""
    config = dict(type=kind, arch=TINY, img_size=32, patch_size=8, **config)
    backbone, outputs = run(**config)
    _, (tokens,) = run(**config | dict(out_type='raw'))
    return pool_output(outputs, backbone), tokens


@pytest.mark.parametrize('kind', ['VisionTransformer', 'DeiT3', 'BEiTViT'])
def test_every_output_of_a_plain_vit_has_a_vector(kind: str) -> None:
    for out_type in ('cls_token', 'raw'):
        vector, tokens = tokens_of(kind, out_type=out_type)
        assert vector.shape == (2, 24)
        if kind != 'BEiTViT':  # it averages before its last norm
            torch.testing.assert_close(vector, tokens[:, 0], rtol=0, atol=0)
    vector, tokens = tokens_of(kind, out_type='featmap')
    assert vector.shape == (2, 24)
    if kind != 'BEiTViT':
        torch.testing.assert_close(vector, tokens[:, 1:].mean(1))


def test_tokens_of_a_vit_without_class_token_are_averaged() -> None:
    vector, tokens = tokens_of(
        'VisionTransformer', out_type='raw', with_cls_token=False
    )
    assert tokens.shape == (2, 16, 24)
    torch.testing.assert_close(vector, tokens.mean(1))


def test_a_distilled_deit_gives_its_class_token() -> None:
    vector, tokens = tokens_of('DistilledVisionTransformer')
    assert tokens.shape == (2, 18, 24)
    torch.testing.assert_close(vector, tokens[:, 0], rtol=0, atol=0)


def test_tokens_are_told_from_channels_by_the_backbone() -> None:
    """An MLP-Mixer's output of three dimensions has the channels first."""
    backbone, outputs = run(
        type='MlpMixer',
        arch=dict(
            embed_dims=24,
            num_layers=1,
            tokens_mlp_dims=8,
            channels_mlp_dims=8,
        ),
        img_size=32,
        patch_size=8,
    )
    assert outputs[-1].shape == (2, 24, 16)
    with pytest.raises(ValueError, match=r'gave \[\(2, 24, 16\)\], which can'):
        pool_output(outputs, backbone)


def test_indices_of_patches_are_not_features() -> None:
    """A masked autoencoder returns them last, a row for each image."""
    backbone, outputs = run(
        type='MAEViT', arch=TINY, img_size=32, patch_size=8
    )
    assert outputs[-1].shape == (2, 16)
    with pytest.raises(
        ValueError, match=r'\(2, 16\) of int64\], which cannot'
    ):
        pool_output(outputs, backbone)
