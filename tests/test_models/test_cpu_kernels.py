"""Sinkhorn's compiled loops: NumPy's float64 numbers, torch's codes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from swav_plugin.models import cpu_kernels, swav_loss


@pytest.mark.parametrize('num_rows', [1, 2, 5])
def test_powers_and_their_sums(num_rows: int) -> None:
    rng = np.random.default_rng(0)
    exponents = rng.uniform(-60, 60, (num_rows, 41)).astype(np.float32)
    exponents[0, :6] = -126, 127, 0, 0.5, -0.5, 1.5
    out, sums = np.empty_like(exponents), np.empty(41, np.float32)
    cpu_kernels.powers_of_2(exponents / 4, 4, out, sums)
    expected = 2.0 ** exponents.astype(np.float64)
    np.testing.assert_allclose(out, expected, rtol=1.2e-7)
    np.testing.assert_allclose(sums, expected.sum(0), rtol=1e-6)


@pytest.mark.parametrize('num_rows', [1, 2, 7])
def test_sums_of_equalised_rows(num_rows: int) -> None:
    rng = np.random.default_rng(0)
    kernel = (2.0 ** rng.uniform(-40, 40, (num_rows, 41))).astype(np.float32)
    scale, sums = rng.random(41, np.float32), np.empty(41, np.float32)
    kernel[-1] = 0  # a row without mass: no division by 0
    before = kernel.copy()
    cpu_kernels.sums_of_equalised_rows(kernel, scale, sums)
    rows = kernel.astype(np.float64)
    expected = rows / np.maximum(rows @ scale, 1e-38)[:, None]
    np.testing.assert_allclose(sums, expected.sum(0), rtol=1e-6)
    codes = np.empty_like(kernel)
    cpu_kernels.equalised_rows(kernel, scale, codes)
    np.testing.assert_allclose(codes, expected * scale, rtol=1e-6)
    np.testing.assert_array_equal(kernel, before)


@pytest.mark.parametrize('num_views, num_coded', [(2, 1), (2, 2), (5, 3)])
@pytest.mark.parametrize('temperature', [0.1, 0.01])
def test_loss_and_its_gradient(
    num_views: int, num_coded: int, temperature: float
) -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(-1, 1, (num_views, 3, 41)).astype(np.float32)
    codes = rng.random((num_coded, 3, 41), np.float32)
    codes /= codes.sum(-1, keepdims=True)
    expected = torch.tensor(scores.astype(np.float64), requires_grad=True)
    loss = swav_loss.swapped_prediction_loss(
        expected, torch.tensor(codes), temperature
    )
    loss.backward()
    value = cpu_kernels.loss_to_gradient(scores, codes, temperature)
    assert value == pytest.approx(loss.item(), rel=1e-6)
    largest = expected.grad.abs().max()
    np.testing.assert_allclose(
        scores, expected.grad, rtol=1e-5, atol=1e-6 * float(largest)
    )


def test_codes_may_be_strided_and_ask_for_gradients() -> None:
    scores = torch.rand(3, 100, 1000)
    codes = torch.rand(1000, 100, 2).softmax(0)
    strided = codes.clone().requires_grad_().permute(2, 1, 0)
    loss = swav_loss.swapped_prediction_loss(scores, strided)
    codes = codes.permute(2, 1, 0).contiguous()
    assert swav_loss.swapped_prediction_loss(scores, codes) == loss


def test_a_score_that_is_no_number_shows_in_the_loss() -> None:
    scores = np.zeros((2, 1, 41), np.float32)
    scores[0, 0, 5] = np.nan
    codes = np.full((2, 1, 41), 1 / 41, np.float32)
    assert np.isnan(cpu_kernels.loss_to_gradient(scores, codes, 0.1))


@pytest.mark.skipif(
    not cpu_kernels.HAS_NUMBA, reason='torch makes these codes without numba'
)
def test_codes_are_those_that_torch_makes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(0)

    def unit(*shape: int) -> torch.Tensor:
        return F.normalize(torch.randn(*shape, generator=generator), dim=1)

    prototypes, queued, batch = unit(1000, 32), unit(1500, 32), unit(8, 32)
    arguments = batch @ prototypes.T, queued, prototypes
    assert swav_loss._cpu_kernels(torch.empty(350, 1000)) is cpu_kernels
    codes = swav_loss.sinkhorn_with_queue(*arguments)
    monkeypatch.setattr(swav_loss, '_cpu_kernels', lambda matrix: None)
    expected = swav_loss.sinkhorn_with_queue(*arguments)
    torch.testing.assert_close(codes, expected, rtol=1e-5, atol=1e-7)
    assert not torch.equal(codes, expected)  # they were made in another way
