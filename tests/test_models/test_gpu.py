"""Check what only a CUDA device can show."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmpretrain.structures import DataSample
from PIL import Image
from torch.utils.data._utils.pin_memory import pin_memory

from swav_plugin.datasets import ImageBatch, SampleKey, collate_views
from swav_plugin.datasets.transforms import LoadImage, device_ops
from swav_plugin.datasets.transforms.device_decode import decode_images
from swav_plugin.datasets.transforms.formatting import whole_image
from swav_plugin.datasets.transforms.view_params import (
    NUM_PARAMS,
    Recipe,
    draw_view_params,
)
from swav_plugin.engine import LARS
from swav_plugin.models import MultiViewPreprocessor, SwAVHead
from swav_plugin.registry import MODELS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason='needs a CUDA device'
    ),
]


def test_codes_and_loss_equal_those_of_the_cpu() -> None:
    torch.manual_seed(0)
    head = SwAVHead(128, 300, queue_length=64).double()
    other = SwAVHead(128, 300, queue_length=64).double().cuda()
    other.load_state_dict(head.state_dict())
    for _ in range(4):
        embeddings = F.normalize(torch.randn(8, 32, 128).double(), dim=-1)
        assert other.loss(embeddings.cuda()).item() == pytest.approx(
            head.loss(embeddings).item(), abs=1e-9
        )


def test_images_and_weights_have_their_channels_innermost() -> None:
    model = MODELS.build(
        dict(
            type='SwAV',
            backbone=dict(type='ResNet', depth=18),
            neck=dict(type='SwAVNeck', in_channels=512),
            head=dict(type='SwAVHead', num_prototypes=60),
        )
    ).cuda()
    conv = model.backbone.layer1[0].conv2
    seen = [conv.weight]
    conv.register_forward_hook(
        lambda conv, args, out: seen.extend([args[0], out])
    )
    model(torch.randn(2, 3, 64, 64).cuda())
    assert len(seen) == 3
    for tensor in seen:
        assert tensor.is_contiguous(memory_format=torch.channels_last)
        assert not tensor.is_contiguous()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_a_mixed_precision_step_never_waits_for_the_device(
    dtype: torch.dtype,
) -> None:
    model = MODELS.build(
        dict(
            type='SwAV',
            backbone=dict(type='ResNet', depth=18, norm_cfg=dict(type='BN')),
            neck=dict(type='SwAVNeck', in_channels=512),
            head=dict(type='SwAVHead', num_prototypes=60, queue_length=32),
        )
    )
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


def test_a_step_of_linear_probes_never_waits_for_the_device() -> None:
    model = MODELS.build(
        dict(
            type='LinearProbe',
            backbone=dict(type='ResNetWithStem', depth=18),
            features=['feature1', 'feature5', 'avgpool'],
            windows='adaptive',
            head=dict(
                type='MultiLinearHead',
                num_classes=10,
                learning_rates=[0.01, 0.1],
            ),
        )
    )
    torch.manual_seed(0)
    images = torch.randn(16, 3, 64, 64)
    samples = [DataSample().set_gt_label(i % 10) for i in range(16)]
    expected = model(images, samples, mode='loss')
    model.cuda()
    groups = list(model.head.parameter_groups())
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    images = images.cuda()
    for step in range(6):
        # The first steps allocate and choose kernels.
        torch.cuda.set_sync_debug_mode('error' if step > 2 else 'default')
        try:
            with torch.autocast('cuda', dtype=torch.float16):
                losses = model(images, samples, mode='loss')
            sum(losses.values()).backward()
            optimizer.step()
            optimizer.zero_grad()
        finally:
            torch.cuda.set_sync_debug_mode('default')
        if step == 0:
            for name, loss in losses.items():
                assert loss.item() == pytest.approx(
                    expected[name].item(), rel=1e-2
                )


def test_the_loss_step_can_be_replayed_as_a_cuda_graph() -> None:
    """Shapes are fixed and nothing is read; a queue would be exchanged."""
    torch.manual_seed(0)
    head = SwAVHead(128, 300).cuda()
    batches = [
        F.normalize(torch.randn(8, 32, 128), dim=-1).cuda() for _ in range(3)
    ]
    static = batches[0].clone().requires_grad_()
    weight = head.prototypes[0].weight

    def step() -> torch.Tensor:
        loss = head.loss(static)
        loss.backward()
        return loss

    warm_up = torch.cuda.Stream()
    warm_up.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm_up):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(warm_up)
    static.grad = weight.grad = None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()
    for batch in batches:
        static.data.copy_(batch)
        graph.replay()
        replayed = [x.detach().clone() for x in (loss, static.grad)]
        eager = batch.clone().requires_grad_()
        expected = head.loss(eager)
        (gradient,) = torch.autograd.grad(expected, eager)
        torch.testing.assert_close(replayed[0], expected.detach())
        torch.testing.assert_close(replayed[1], gradient)


def image_batch(num_images: int) -> ImageBatch:
    """Images of noise on coarse colors, of several sizes, and their rows."""
    rng = np.random.default_rng(0)
    recipe = Recipe(
        sizes=np.array([96] * 2 + [48] * 3),
        crop_ratio_ranges=np.array([[0.14, 1.0]] * 2 + [[0.05, 0.14]] * 3),
        aspect_ratio_range=np.array([3 / 4, 4 / 3]),
        flip_prob=0.5,
        amount_ranges=np.array([[0.2, 1.8]] * 3 + [[-0.2, 0.2]]),
        jitter_prob=0.8,
        grayscale_prob=0.2,
        sigma_range=np.array([0.1, 2.0]),
        blur_prob=0.5,
    )
    samples = []
    for i in range(num_images):
        height, width = (int(side) for side in rng.integers(60, 500, size=2))
        coarse = rng.integers(30, 200, size=(7, 7, 3), dtype=np.uint8)
        img = np.asarray(Image.fromarray(coarse).resize((width, height)))
        img = img + rng.integers(30, size=img.shape, dtype=np.uint8)
        params = draw_view_params(SampleKey(i, 0, 0), height, width, recipe)
        samples.append(dict(inputs=whole_image(img, params), data_samples=i))
    return collate_views(samples)['inputs']


def test_views_cut_on_the_device_equal_those_of_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device_ops, 'MAX_PIXELS', 2**20)
    batch = image_batch(12)
    preprocessor = MultiViewPreprocessor([0.0] * 3, [1.0] * 3)
    expected = preprocessor(dict(inputs=batch))['inputs']
    found = preprocessor.cuda()(dict(inputs=batch))['inputs']
    assert len(found) == 5
    for view, other in zip(found, expected):
        difference = (view.cpu() - other).abs().mean((1, 2, 3))
        # In float16 on CUDA.
        assert difference.mean() < 0.6 and difference.max() < 2


def test_cutting_views_never_waits_for_the_device() -> None:
    batch = pin_memory(image_batch(12))
    assert batch.pixels.is_pinned()
    preprocessor = MultiViewPreprocessor([0.0] * 3, [1.0] * 3).cuda()
    for mode in ('default', 'error'):
        torch.cuda.set_sync_debug_mode(mode)
        try:
            with torch.autocast('cuda', dtype=torch.bfloat16):
                views = preprocessor(dict(inputs=batch))['inputs']
        finally:
            torch.cuda.set_sync_debug_mode('default')
    assert all(torch.isfinite(view).all() for view in views)


def test_files_decoded_by_the_device(tmp_path: Path) -> None:
    # Smooth colors: nvJPEG enlarges them in another way than libjpeg.
    img = Image.linear_gradient('L').resize((300, 200))
    img = Image.merge('RGB', [img, img.rotate(180), img])
    samples = []
    for name in ('0.png', '1.jpg', '2.jpg'):
        img.convert('L' if name[0] == '2' else 'RGB').save(tmp_path / name)
        file = LoadImage(decode_on_device=True)(
            dict(img_path=str(tmp_path / name))
        )['img']
        params = np.full((1, NUM_PARAMS), 50.0)
        samples.append(
            dict(inputs=whole_image(file, params), data_samples=None)
        )
    batch = collate_views(samples)['inputs']
    assert len(batch.encoded.paths) == 2
    found = decode_images(
        MultiViewPreprocessor([0.0], [1.0]).cuda().cast_data(batch)
    ).pixels
    expected = decode_images(batch).pixels
    assert found.is_cuda and found.shape == expected.shape
    assert (found.cpu().float() - expected.float()).abs().mean() < 2
