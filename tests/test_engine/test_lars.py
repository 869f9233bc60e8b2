"""LARS against the float64 reference of LARC around SGD."""

import copy

import numpy as np
import pytest
import torch

from swav_plugin.engine import LARS
from tests import reference


@pytest.mark.parametrize('clip', [False, True])
@pytest.mark.parametrize('weight_decay', [0, 1e-6, 0.1])
def test_it_equals_larc_around_sgd_as_the_rate_changes(
    clip: bool, weight_decay: float
) -> None:
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape) for shape in ((4, 3), (5,), (2, 3, 3))]
    weights[1][:] = 0  # a bias before its first step: no scaling, no decay
    buffers = [np.zeros_like(w) for w in weights]
    params = [torch.tensor(w, requires_grad=True) for w in weights]
    # Rates above and below the clipping point of 1e-3 * |w| / |g|.
    optimizer = LARS(params, 1.0, 0.9, weight_decay, clip=clip)
    for step, lr in enumerate([0.0, 1e-4, 1e-3, 5.0, 0.5]):
        gradients = [rng.normal(size=w.shape) for w in weights]
        if step == 2:
            gradients[0][:] = 0  # only momentum moves this one
        optimizer.param_groups[0]['lr'] = lr
        for param, gradient in zip(params, gradients):
            param.grad = torch.tensor(gradient)
        optimizer.step()
        with np.errstate(divide='ignore'):
            for i, gradient in enumerate(gradients):
                weights[i], buffers[i] = reference.larc_update(
                    weights[i],
                    gradient,
                    buffers[i],
                    lr,
                    0.9,
                    weight_decay,
                    1e-3,
                    1e-8,
                    clip,
                )
        for param, weight in zip(params, weights):
            np.testing.assert_allclose(
                param.detach().numpy(), weight, atol=1e-14
            )


def test_without_momentum_it_is_scaled_gradient_descent() -> None:
    param = torch.tensor([3.0, 4.0], requires_grad=True)
    param.grad = torch.tensor([0.0, 2.0])
    LARS([param], lr=10, momentum=0).step()
    # Rate: 1e-3 * 5 / 2.
    torch.testing.assert_close(
        param.detach(), torch.tensor([3.0, 4 - 10 * 2.5e-3 * 2])
    )


def test_a_parameter_without_gradient_is_left_alone() -> None:
    frozen = torch.ones(2, requires_grad=True)
    moving = torch.ones(2, requires_grad=True)
    optimizer = LARS([frozen, moving], lr=1, weight_decay=0.1)
    moving.grad = torch.ones(2)
    optimizer.step()
    assert frozen.tolist() == [1, 1] and not optimizer.state[frozen]
    assert moving[0] < 1


def test_a_restored_state_goes_on_exactly() -> None:
    torch.manual_seed(0)
    first = torch.nn.Linear(3, 2)
    second = torch.nn.Linear(3, 2)
    one, other = (LARS(m.parameters(), lr=0.3) for m in (first, second))
    for step in range(4):
        if step == 2:
            second.load_state_dict(first.state_dict())
            other.load_state_dict(copy.deepcopy(one.state_dict()))
        gradients = [torch.randn_like(p) for p in first.parameters()]
        for model, optimizer in ((first, one), (second, other)):
            for param, gradient in zip(model.parameters(), gradients):
                param.grad = gradient.clone()
            optimizer.step()
    assert torch.equal(first.weight, second.weight)


def test_a_closure_is_evaluated_and_its_loss_returned() -> None:
    param = torch.ones(1, requires_grad=True)
    optimizer = LARS([param], lr=1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = 3 * param.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3
    assert param.item() == pytest.approx(1 - 1e-3)


@pytest.mark.parametrize(
    'argument',
    [
        dict(lr=-0.1),
        dict(lr=1, momentum=-1),
        dict(lr=1, weight_decay=-1),
        dict(lr=1, trust_coefficient=0),
        dict(lr=1, eps=0),
    ],
)
def test_arguments_out_of_range_are_named(argument: dict) -> None:
    name, value = list(argument.items())[-1]
    with pytest.raises(ValueError, match=f'{name}={value}'):
        LARS([torch.ones(1, requires_grad=True)], **argument)
