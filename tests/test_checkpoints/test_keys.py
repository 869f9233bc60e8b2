"""Names of weights in other SwAV checkpoints."""

import torch

from swav_plugin.checkpoints.keys import backbone_weights, convert_state_dict

from .layouts import mmselfsup, released


def test_a_backbone_beside_other_heads() -> None:
    weights = mmselfsup('head.prototypes.weight')
    backbone = backbone_weights(weights)
    assert backbone.keys() == {
        key.removeprefix('module.')
        for key in released()
        if not key.startswith(('module.projection_head', 'module.prototypes'))
    }
    assert backbone['conv1.weight'] is weights['backbone.conv1.weight']


def test_several_sets_of_prototypes_keep_their_order() -> None:
    weights = {
        f'module.prototypes.prototypes{i}.weight': torch.full((2, 2), i)
        for i in (0, 1)
    }
    converted = convert_state_dict(weights)
    assert converted['head.prototypes.1.weight'][0, 0] == 1
