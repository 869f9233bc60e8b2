"""Weights for the backbone, once, before training."""

import hashlib
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from swav_plugin.engine import PretrainedHook


def runner(iteration: int = 0) -> SimpleNamespace:
    """Make the parts of a Runner that the hook uses."""
    torch.manual_seed(1)
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    return SimpleNamespace(
        iter=iteration, model=model, logger=logging.getLogger('hook'), cfg={}
    )


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    state = runner().model.state_dict()
    return {key: torch.full_like(value, 7) for key, value in state.items()}


@pytest.mark.parametrize('is_wrapped', [False, True])
def test_fills_the_backbone(
    weights: dict[str, torch.Tensor],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    is_wrapped: bool,
) -> None:
    path = str(tmp_path / 'w.pth')
    torch.save(dict(state_dict=weights), path)
    run = runner()
    model = run.model
    if is_wrapped:
        run.model = nn.DataParallel(model)
    with caplog.at_level(logging.INFO):
        PretrainedHook(path).before_train(run)
    for value in model.backbone.state_dict().values():
        assert torch.equal(value, torch.full_like(value, 7))
    assert caplog.messages == [f'Filled 7 backbone tensors from {path}.']


def test_fills_a_shared_head(
    weights: dict[str, torch.Tensor],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = str(tmp_path / 'w.pth')
    weights['backbone.layer4.0.weight'] = torch.full((2, 2), 7.0)
    weights['backbone.layer4.0.bias'] = torch.full((2,), 7.0)
    torch.save(weights, path)
    run = runner()
    run.model.roi_head = nn.Module()
    run.model.roi_head.shared_head = nn.Module()
    run.model.roi_head.shared_head.layer4 = nn.Sequential(nn.Linear(2, 2))
    with caplog.at_level(logging.INFO):
        PretrainedHook(path).before_train(run)
    for value in run.model.roi_head.shared_head.state_dict().values():
        assert torch.equal(value, torch.full_like(value, 7))
    assert caplog.messages == [
        f'Filled 7 backbone tensors and 2 of the shared head from {path}.'
    ]


def test_leaves_a_resumed_run_alone(caplog: pytest.LogCaptureFixture) -> None:
    run = runner(iteration=40)
    before = run.model.backbone[0].weight.clone()
    with caplog.at_level(logging.INFO):
        PretrainedHook('w.pth').before_train(run)
    assert torch.equal(run.model.backbone[0].weight, before)
    assert caplog.messages == [
        'Resumed at iteration 40: w.pth is not loaded again.'
    ]


def test_incomplete_weights_are_an_error(
    weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    del weights['backbone.1.bias']
    torch.save(weights, tmp_path / 'w.pth')
    with pytest.raises(ValueError, match='1.bias'):
        PretrainedHook(str(tmp_path / 'w.pth')).before_train(runner())


def test_random_weights_are_asked_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = runner()
    before = run.model.backbone[0].weight.clone()
    with caplog.at_level(logging.INFO):
        PretrainedHook('random').before_train(run)
    assert torch.equal(run.model.backbone[0].weight, before)
    assert caplog.messages == [
        'The backbone is as initialized: no weights were loaded.'
    ]


def test_a_checkpoint_must_be_named() -> None:
    with pytest.raises(ValueError, match='add --pretrained CHECKPOINT, or'):
        PretrainedHook().before_train(runner())
    PretrainedHook().before_train(runner(iteration=40))
    of_load_from = runner()
    of_load_from.cfg = dict(load_from='whole.pth')
    PretrainedHook().before_train(of_load_from)


def test_a_model_without_a_backbone_is_refused() -> None:
    run = runner()
    run.model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match='backbone, which Linear does not'):
        PretrainedHook('w.pth').before_train(run)


def test_what_it_began_with_stays_in_checkpoints(
    weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = tmp_path / 'w.pth'
    torch.save(weights, path)
    hook, saved = PretrainedHook(str(path)), dict(meta={})
    hook.before_train(runner())
    hook.before_save_checkpoint(runner(), saved)
    assert saved == dict(
        meta=dict(
            pretrained=dict(
                name='w', sha256=hashlib.sha256(path.read_bytes()).hexdigest()
            )
        )
    )
    resumed, again = PretrainedHook(), dict(meta={})
    of_load_from = runner()
    of_load_from.cfg = dict(load_from='whole.pth')
    resumed.after_load_checkpoint(of_load_from, saved)
    assert resumed.origin is None  # that is no longer the same training
    of_resume = runner()
    of_resume.cfg = dict(resume=True)
    resumed.after_load_checkpoint(of_resume, saved)
    resumed.before_train(runner(iteration=5))
    resumed.before_save_checkpoint(runner(), again)
    assert again == saved
