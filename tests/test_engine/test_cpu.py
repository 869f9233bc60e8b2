"""DDP and mixed precision without a GPU."""

import logging

import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from swav_plugin.engine import CPUAmpOptimWrapper, CPUDistributedDataParallel
from tests.distributed import run_on_ranks


class Regression(BaseModel):
    """One linear layer behind an optional normalization."""

    def __init__(self, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.norm = norm or nn.Identity()
        self.linear = nn.Linear(4, 1)
        self.double()  # rounding of a step enters the next ones

    def forward(
        self, inputs: Tensor, targets: Tensor, mode: str = 'loss'
    ) -> dict[str, Tensor]:
        output = self.linear(self.norm(inputs))
        return dict(loss=F.mse_loss(output, targets))


def sample(num: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return dict(
        inputs=torch.randn(num, 4, generator=generator).double(),
        targets=torch.randn(num, 1, generator=generator).double(),
    )


def regress(rank: int, accumulative_counts: int = 1) -> Tensor:
    """Weights after 4 steps on this rank's half of 8 samples."""
    torch.manual_seed(rank)  # DDP starts all from rank 0's weights
    model = CPUDistributedDataParallel(
        module=Regression(), device_ids=[rank]
    )  # as mmengine calls it
    return steps(model, rank, accumulative_counts)


def steps(model: nn.Module, rank: int, accumulative_counts: int) -> Tensor:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    wrapper = OptimWrapper(optimizer, accumulative_counts)
    wrapper.initialize_count_status(model, 0, 4)
    data = {
        key: value[rank * 4 : rank * 4 + 4] for key, value in sample(8).items()
    }
    for _ in range(4):
        model.train_step(data, optim_wrapper=wrapper)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize('accumulative_counts', [1, 2])
def test_two_ranks_equal_one(accumulative_counts: int) -> None:
    ranks = run_on_ranks(regress, 2, accumulative_counts)
    torch.manual_seed(0)
    model = Regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    wrapper = OptimWrapper(optimizer, accumulative_counts)
    wrapper.initialize_count_status(model, 0, 4)
    for _ in range(4):
        model.train_step(sample(8), optim_wrapper=wrapper)
    expected = torch.cat([p.detach().flatten() for p in model.parameters()])
    for weights in ranks:
        torch.testing.assert_close(weights, expected, atol=1e-12, rtol=0)


class Records(logging.Handler):
    """Keeps what was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def train_sync_bn(rank: int) -> tuple[list[str], Tensor, Tensor]:
    """Log, weights and BN means of a model with SyncBN."""
    from mmengine.logging import MMLogger

    records = Records()
    logger = MMLogger.get_instance('sync_bn')
    logger.addHandler(records)
    torch.manual_seed(0)
    model = CPUDistributedDataParallel(
        module=Regression(nn.SyncBatchNorm(4)), device_ids=[rank]
    )
    weights = steps(model, rank, 1)
    return records.messages, weights, model.module.norm.running_mean


def test_sync_bn_becomes_bn_and_the_log_says_so() -> None:
    (messages, weights, means), (_, others, other_means) = run_on_ranks(
        train_sync_bn, 2
    )
    text = [message for message in messages if 'SyncBN' in message]
    assert len(text) == 1
    assert text[0].startswith('1 SyncBN layers became plain BN')
    torch.testing.assert_close(weights, others, atol=1e-12, rtol=0)
    # Statistics are per process, as the log says.
    assert (means - other_means).abs().max() > 0.01


def test_amp_computes_in_bfloat16_and_keeps_float32_weights() -> None:
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapper = CPUAmpOptimWrapper(optimizer)
    inputs = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    with wrapper.optim_context(model):
        output = model(inputs)
    assert output.dtype == torch.bfloat16
    assert model(inputs).dtype == torch.float32
    before = model.weight.detach().clone()
    wrapper.update_params(output.float().square().mean())
    assert model.weight.dtype == torch.float32
    assert not torch.equal(model.weight, before)


@pytest.mark.parametrize('width', [1, 2, 3])
@pytest.mark.parametrize(
    'conv',
    [
        dict(kernel_size=3, stride=2, padding=1),
        dict(kernel_size=1, stride=2),
        dict(kernel_size=3, stride=4, padding=1),
        dict(kernel_size=2, stride=4, padding=3, dilation=2),
    ],
)
def test_gradients_of_narrow_inputs(width: int, conv: dict) -> None:
    """On AVX-512, oneDNN's own come from memory that nobody wrote."""
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 32, bias=False, **conv)
    exact = nn.Conv2d(16, 32, bias=False, **conv).double()
    for each in (layer, exact):
        each.weight.data = (
            torch.linspace(-1, 1, layer.weight.numel())
            .view(layer.weight.shape)
            .bfloat16()
            .to(each.weight.dtype)
        )
    images = torch.randn(16, 16, width, width).bfloat16()
    wanted = exact(images.double())
    direction = torch.randn(wanted.shape).bfloat16()
    wanted.backward(direction.double())
    wrapper = CPUAmpOptimWrapper(torch.optim.SGD(layer.parameters(), 0.1))
    for _ in range(5):
        layer.weight.grad = None
        used = [torch.full((2**n,), torch.nan) for n in range(8, 20)]
        del used
        with wrapper.optim_context(layer):
            output = layer(images.float())
        output.backward(direction)
        torch.testing.assert_close(
            output.double(), wanted, atol=0.5, rtol=0.01
        )
        torch.testing.assert_close(
            layer.weight.grad.double(), exact.weight.grad, atol=1, rtol=0.02
        )
