"""mmengine gets the numbers of a training state, and no text to act on."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import CheckpointLoader

from swav_plugin.checkpoints import load_backbone, training_state
from swav_plugin.checkpoints.file_kind import CheckpointError
from swav_plugin.checkpoints.rebuild import to_plain
from swav_plugin.checkpoints.safe_load import safe_load
from swav_plugin.checkpoints.training_state import (
    check_finite,
    check_parts,
    keep_data,
)


def _state(**info: Any) -> dict[str, Any]:
    info = dict(iter=3, lr=0.1, **info)
    scalars = {'train/loss': HistoryBuffer([0.5], [1]), 'other': 'text'}
    return dict(
        state_dict={'weight': torch.ones(2)},
        meta=dict(config='x', cfg='y', epoch=1, iter=3, seed=4, name='z'),
        message_hub=dict(
            log_scalars=scalars,
            runtime_info=info,
            resumed_keys=dict.fromkeys([*info, *scalars], True),
        ),
    )


@pytest.mark.parametrize('prepare', [dict, to_plain])
def test_numbers_are_kept(prepare: Callable[[dict], dict]) -> None:
    kept = dict(keep_ckpt_ids=[1, 2], best_score=0.5, nothing=None)
    checkpoint = keep_data(prepare(_state(**kept)), 'w.pth')
    assert checkpoint['meta'] == dict(
        epoch=1, iter=3, seed=4, name='z', cfg_text='y'
    )
    hub = MessageHub.get_instance('test_numbers_are_kept')
    hub.load_state_dict(checkpoint['message_hub'])
    assert hub.runtime_info == dict(iter=3, lr=0.1, **kept)
    assert hub.get_scalar('train/loss').current() == 0.5
    assert 'other' not in hub.log_scalars


@pytest.mark.parametrize(
    'text',
    [
        dict(best_ckpt='/home/me'),
        dict(best_ckpt_acc='..'),
        dict(best_ckpt=3),  # a file descriptor
        dict(best_ckpt='best_acc_epoch_3.pth'),
        dict(last_ckpt='/home/me/x.pth'),
        dict(keep_ckpt_ids=['1/../../me']),
        dict(keep_ckpt_ids=[1, ['2']]),
        dict(keep_ckpt_ids={'a': 'b'}),
        dict(keep_ckpt_ids='12'),
        dict(cfg='import os'),
        dict(dataset_meta={'classes': ['a']}),
        dict(folder_of_a_hook=b'/home/me'),
    ],
)
def test_text_is_left_out(text: dict[str, Any]) -> None:
    hub = keep_data(_state(**text), 'w.pth')['message_hub']
    assert hub['runtime_info'] == dict(iter=3, lr=0.1)
    assert hub['resumed_keys'] == {
        'iter': True,
        'lr': True,
        'train/loss': True,
    }


def test_unknown_text_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr(
        training_state, 'print_log', lambda text, *_, **__: logged.append(text)
    )
    state = _state(cfg='x', last_ckpt='y', best_ckpt_acc='z')
    del state['message_hub']['log_scalars']['other']
    keep_data(state, 'w.pth')
    assert logged == []
    keep_data(_state(phase='warm', cfg='x', last_ckpt='y'), 'w.pth')
    assert logged == [
        'w.pth: ignoring what is not a number in its message hub: other, '
        'phase.'
    ]


@pytest.mark.parametrize(
    'history',
    [
        dict(values=torch.ones(2, 2), counts=torch.ones(2, 2), max_length=9),
        dict(values=torch.ones(2), counts=torch.ones(3), max_length=9),
        dict(values=torch.ones(2), counts=torch.ones(2), max_length=-1),
        dict(
            values=torch.ones(2, dtype=torch.bfloat16),
            counts=torch.ones(2),
            max_length=9,
        ),
        dict(
            values=torch.ones(2, device='meta'),
            counts=torch.ones(2),
            max_length=9,
        ),
        'text',
    ],
)
def test_a_history_that_is_none_is_left_out(history: Any) -> None:
    hub = dict(log_scalars=dict(good=HistoryBuffer([1.0], [1]), bad=history))
    kept = keep_data(dict(message_hub=hub), 'w.pth')['message_hub']
    assert [*kept['log_scalars']] == ['good']


def test_tensors_have_the_bytes_of_their_values(tmp_path: Path) -> None:
    path = tmp_path / 'w.pth'
    for tensor, message in (
        (torch.zeros(3, device='meta'), 'layer.weight has no values'),
        (
            torch.zeros(1).as_strided((10**6, 10**5), (0, 0)),
            r'layer.weight expands a few values to 372.5 GiB',
        ),
    ):
        torch.save({'layer.weight': tensor}, path)
        with pytest.raises(CheckpointError, match=message):
            safe_load(path)
    repeated = torch.zeros(1, 3).expand(1000, 3)
    torch.save({'weight': repeated}, path)
    assert safe_load(path)['weight'].equal(repeated)


def _resumable(**parts: Any) -> dict[str, Any]:
    return {**_state(), 'optimizer': {'state': {}}, **parts}


@pytest.mark.parametrize(
    'state, message',
    [
        ([1, 2], 'it holds no weights'),
        ({}, 'it holds no weights'),
        (_resumable(state_dict=None), 'it holds no weights'),
        ({'fc.weight': torch.ones(2)}, 'but not the state of a run'),
        (_resumable(optimizer='SGD'), 'but not the state of a run'),
        (_resumable(meta=None), 'but not the state of a run'),
        (_resumable(meta=dict(epoch='3', iter=9)), 'but not the state of'),
        (_resumable(meta=dict(epoch=-5, iter=9)), 'epoch -5, iteration 9'),
        (_resumable(param_schedulers=[dict(step=5)]), "has 'step', which is"),
        (
            _resumable(param_schedulers=dict(all=[dict(_get_value=5)])),
            "has '_get_value', which is not scheduler",
        ),
    ],
)
def test_what_no_training_goes_on_from(state: Any, message: str) -> None:
    check_parts(_resumable(param_schedulers=[dict(last_step=5)]), 'w.pth')
    with pytest.raises(CheckpointError, match=message) as refused:
        check_parts(state, 'w.pth')
    assert str(refused.value).startswith('w.pth cannot be resumed: ')


@pytest.mark.parametrize(
    'hub', [None, [], {}, {'log_scalars': 3}, {'runtime_info': ['a']}]
)
def test_a_broken_hub_is_an_empty_one(hub: object) -> None:
    state = keep_data(dict(meta=3, message_hub=hub), 'w.pth')
    MessageHub.get_instance('empty').load_state_dict(state['message_hub'])


def test_seeds_are_numbers() -> None:
    for seed in ('1', [1], 1.5, True):
        state = keep_data(dict(meta=dict(seed=seed)), 'w.pth')
        assert state['meta'] == {}


def test_all_that_mmengine_loads_is_treated_so(tmp_path: Path) -> None:
    path = tmp_path / 'w.pth'
    torch.save(_state(best_ckpt='/home/me'), path)
    for source in (str(path), f'local:{path}'):
        try:
            CheckpointLoader.register_scheme('local:', _load_local)
        except KeyError:
            pass
        state = CheckpointLoader.load_checkpoint(source)
        assert not {'config', 'cfg'} & state['meta'].keys()
        assert 'best_ckpt' not in state['message_hub']['runtime_info']


def _load_local(filename: str, map_location: Any) -> Any:
    """Stand in for the loader of another scheme, such as s3."""
    return torch.load(
        filename.partition(':')[2], map_location, weights_only=False
    )


def test_tensors_that_are_not_finite_are_named() -> None:
    good = {'a': torch.ones(3), 'b': torch.tensor([2**60]), 'c': 1.0}
    check_finite(good, 'w.pth')
    check_finite(torch.empty(0), 'w.pth')
    for bad in (math.nan, math.inf, -math.inf):
        for dtype in (
            torch.float16,
            torch.bfloat16,
            torch.float32,
            torch.float64,
            torch.complex64,
            torch.float8_e5m2,
        ):
            tensor = torch.tensor([0.0, bad, bad]).to(dtype)
            with pytest.raises(
                CheckpointError,
                match=r'w.pth: state.0.x is not finite: 2 of its 3 values',
            ):
                check_finite({**good, 'state': [{'x': tensor}]}, 'w.pth')


def test_what_the_model_has_not_finite_need_not_be() -> None:
    own = {'mask': torch.tensor([0.0, -math.inf]), 'weight': torch.ones(1)}
    check_finite(own, 'w.pth', own)
    with pytest.raises(CheckpointError, match='weight is not finite'):
        check_finite({'weight': torch.tensor(math.nan)}, 'w.pth', own)


@pytest.mark.parametrize('dry_run', [True, False])
def test_backbones_are_not_filled_with_nan(
    tmp_path: Path, dry_run: bool
) -> None:
    backbone = torch.nn.Sequential(torch.nn.Linear(2, 1))
    before = backbone[0].weight.clone()
    weights = {k: v.clone() for k, v in backbone.state_dict().items()}
    weights['0.weight'][0, 1] = np.nan
    torch.save(weights, tmp_path / 'w.pth')
    with pytest.raises(CheckpointError, match='w.pth: 0.weight is not finite'):
        load_backbone(backbone, tmp_path / 'w.pth', dry_run)
    assert torch.equal(backbone[0].weight, before)
