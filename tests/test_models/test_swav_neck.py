"""SwAVNeck: what it pools, how it projects."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from swav_plugin.models import SwAVNeck
from swav_plugin.models.feature_pooling import describe_output


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


@pytest.mark.parametrize('shape', [(2, 9), (2, 9, 3, 3)])
def test_another_number_of_channels_is_shown(shape: tuple) -> None:
    with pytest.raises(ValueError) as error:
        SwAVNeck(6, 5, 4).pool((torch.zeros(shape),))
    assert str(error.value).startswith(f'the backbone gave [{shape}], but')
    assert '(N, 6)' in str(error.value)
    assert 'set neck.in_channels=9,' in str(error.value)


@pytest.mark.parametrize(
    'outputs',
    [
        (torch.zeros(2, 7, 6),),
        # A Conformer's: of the convolutions and of the transformer.
        ([torch.zeros(2, 6), torch.zeros(2, 9)],),
        (torch.zeros(2, 6), torch.zeros(2, 6).long()),
        {'features': torch.zeros(2, 6)},
    ],
)
def test_an_output_that_cannot_be_pooled_is_shown(outputs: Any) -> None:
    with pytest.raises(ValueError) as error:
        SwAVNeck(6, 5, 4).pool(outputs)
    shown = describe_output(outputs)
    assert str(error.value).startswith(f'the backbone gave {shown}, which')
    assert "out_type='cls_token' or 'avg_featmap'" in str(error.value)


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
