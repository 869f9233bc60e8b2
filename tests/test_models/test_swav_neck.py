"""SwAVNeck: what it pools, how it projects."""

import pytest
import torch
import torch.nn.functional as F

from swav_plugin.models import SwAVNeck


def test_it_is_mean_then_mlp_then_unit_norm() -> None:
    torch.manual_seed(0)
    neck = SwAVNeck(in_channels=6, hid_channels=5, out_channels=4).double()
    maps = torch.randn(8, 6, 3, 2, dtype=torch.float64)
    pooled = neck.pool((torch.zeros(1), maps))
    torch.testing.assert_close(pooled, maps.flatten(2).mean(2))
    linear, norm, _, last = neck.projection
    hidden = F.batch_norm(
        linear(pooled), None, None, norm.weight, norm.bias, training=True
    )
    expected = F.normalize(last(hidden.relu()), dim=1)
    torch.testing.assert_close(neck(pooled), expected)


def test_parameter_names_follow_the_released_checkpoints() -> None:
    names = set(SwAVNeck(6, 5, 4).state_dict())
    stem = 'projection.'
    assert {
        f'{stem}0.weight',
        f'{stem}1.running_mean',
        f'{stem}3.bias',
    } <= names
    assert set(SwAVNeck(6, 5, 4, norm_cfg=None).state_dict()) == {
        f'{stem}{i}.{kind}' for i in (0, 2) for kind in ('weight', 'bias')
    }
    assert set(SwAVNeck(6, 0, 4).state_dict()) == {
        'projection.0.weight',
        'projection.0.bias',
    }


def test_class_tokens_pass_as_they_are() -> None:
    tokens = torch.randn(3, 6)
    assert torch.equal(SwAVNeck(6, 5, 4).pool([tokens]), tokens)


@pytest.mark.parametrize('shape', [(2, 7, 6), (2, 9), (2, 9, 3, 3)])
def test_an_output_that_cannot_be_pooled_is_shown(shape: tuple) -> None:
    with pytest.raises(ValueError) as error:
        SwAVNeck(6, 5, 4).pool((torch.zeros(shape),))
    pooled_shape = shape[:2] if len(shape) == 4 else shape
    assert str(pooled_shape) in str(error.value)
    assert '(N, 6)' in str(error.value)


def test_norms_are_exact_under_autocast() -> None:
    torch.manual_seed(0)
    neck = SwAVNeck(6, 5, 4)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        embeddings = neck(torch.randn(8, 6))
    # Four squares, a root and four quotients, each rounded by 2**-24.
    torch.testing.assert_close(
        embeddings.norm(dim=1), torch.ones(8), atol=1e-6, rtol=0
    )
    assert embeddings.dtype == torch.float32
