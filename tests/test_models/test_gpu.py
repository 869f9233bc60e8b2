"""What only a CUDA device can show."""
import pytest
import torch
import torch.nn.functional as F

from swav_plugin.engine import LARS
from swav_plugin.models import SwAVHead
from swav_plugin.registry import MODELS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason='needs a CUDA device')
]


def test_codes_and_loss_equal_those_of_the_cpu() -> None:
    torch.manual_seed(0)
    head = SwAVHead(128, 300, queue_length=64)
    other = SwAVHead(128, 300, queue_length=64).cuda()
    other.load_state_dict(head.state_dict())
    for _ in range(4):
        embeddings = F.normalize(torch.randn(8, 32, 128), dim=-1)
        assert other.loss(embeddings.cuda()).item() == pytest.approx(
            head.loss(embeddings).item(), abs=1e-5)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_a_mixed_precision_step_never_waits_for_the_device(
    dtype: torch.dtype
) -> None:
    model = MODELS.build(
        dict(
            type='SwAV',
            backbone=dict(type='ResNet', depth=18, norm_cfg=dict(type='BN')),
            neck=dict(type='SwAVNeck', in_channels=512),
            head=dict(type='SwAVHead', num_prototypes=60, queue_length=32)))
    model.cuda()
    optimizer = LARS(model.parameters(), lr=0.1)
    views = [torch.randn(16, 3, s, s).cuda() for s in (64, 64, 32, 32)]
    losses = []
    for step in range(6):
        # The first steps allocate and choose kernels.
        torch.cuda.set_sync_debug_mode('error' if step > 2 else 'default')
        try:
            with torch.autocast('cuda', dtype=dtype):
                loss = model(views, mode='loss')['loss']
            (loss * 1024).backward()
            model.head.drop_prototype_gradients()
            optimizer.step()
            optimizer.zero_grad()
        finally:
            torch.cuda.set_sync_debug_mode('default')
        losses.append(loss.detach())
    assert model.head.queue.is_full
    assert torch.isfinite(torch.stack(losses)).all()
