"""SwAV: how views are grouped, the three modes, other backbones."""

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.structures import DataSample
from torch import Tensor

from swav_plugin.models import SwAV
from swav_plugin.registry import MODELS

RESNET = dict(
    type='ResNet',
    depth=18,
    base_channels=8,
    stem_channels=8,
    norm_cfg=dict(type='BN'),
    zero_init_residual=False,
)


def make_model(
    backbone: dict = RESNET, in_channels: int = 64, **kwargs: Any
) -> SwAV:
    torch.manual_seed(0)
    neck = dict(
        type='SwAVNeck',
        in_channels=in_channels,
        hid_channels=32,
        out_channels=16,
    )
    head = dict(type='SwAVHead', num_prototypes=12)
    return MODELS.build(
        dict(type='SwAV', backbone=backbone, neck=neck, head=head) | kwargs
    )


def make_views(sizes: tuple[int, ...] = (32, 32, 16, 16)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(4, 3, s, s, generator=generator) for s in sizes]


def test_views_of_one_size_share_a_pass_and_keep_their_order() -> None:
    model = make_model()
    views = make_views((16, 32, 16, 32))
    calls = []
    model.backbone.register_forward_pre_hook(
        lambda _, args: calls.append(args[0])
    )
    pooled = model._extract_views(views)
    assert [tuple(x.shape) for x in calls] == [(8, 3, 16, 16), (8, 3, 32, 32)]
    # By hand, with batch statistics over all views of a size.
    small = model.extract_feat(torch.cat([views[0], views[2]]))
    large = model.extract_feat(torch.cat([views[1], views[3]]))
    expected = torch.cat([small[:4], large[:4], small[4:], large[4:]])
    torch.testing.assert_close(pooled, expected)


def test_the_loss_is_that_of_the_parts() -> None:
    model, views = make_model(), make_views()
    loss = model(views, mode='loss')['loss']
    embeddings = model.neck(model._extract_views(views)).unflatten(0, (4, 4))
    torch.testing.assert_close(loss, model.head.loss(embeddings))


def test_every_parameter_gets_a_gradient() -> None:
    model = make_model()
    model(make_views(), mode='loss')['loss'].backward()
    without = [n for n, p in model.named_parameters() if p.grad is None]
    assert without == []


def test_predict_gives_the_nearest_prototype_of_the_first_view() -> None:
    model, views = make_model().eval(), make_views()
    samples = [DataSample() for _ in range(4)]
    outputs = model(views, samples, mode='predict')
    assert all(a is b for a, b in zip(outputs, samples))
    embeddings = model.neck(model(views[0], mode='tensor'))
    # Those of a fresh model are not normalized; predict has to.
    prototypes = F.normalize(model.head.prototypes[0].weight, dim=1)
    distances = torch.cdist(embeddings, prototypes)
    labels = [int(sample.pred_label) for sample in outputs]
    assert labels == distances.argmin(1).tolist()
    assert all(
        int(s.pred_score.argmax()) == int(s.pred_label) for s in outputs
    )


def test_tensor_gives_pooled_backbone_features() -> None:
    model, view = make_model().eval(), make_views()[0]
    expected = model.backbone(view)[-1].mean((2, 3))
    assert torch.equal(model(view), expected)
    assert torch.equal(model([view]), expected)


@pytest.mark.parametrize('out_type', ['cls_token', 'avg_featmap'])
def test_a_vision_transformer_trains_on_both_sizes(out_type: str) -> None:
    backbone = dict(
        type='VisionTransformer',
        img_size=32,
        patch_size=8,
        out_type=out_type,
        arch=dict(
            embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48
        ),
    )
    model = make_model(backbone, in_channels=24)
    loss = model(make_views(), mode='loss')['loss']
    loss.backward()
    assert torch.isfinite(loss)
    gradient = model.backbone.patch_embed.projection.weight.grad
    assert gradient.abs().sum() > 0


def test_raw_tokens_are_refused_with_the_remedy() -> None:
    backbone = dict(
        type='VisionTransformer',
        img_size=32,
        patch_size=8,
        out_type='raw',
        arch=dict(
            embed_dims=24, num_layers=1, num_heads=2, feedforward_channels=48
        ),
    )
    with pytest.raises(ValueError, match='avg_featmap'):
        make_model(backbone, in_channels=24)(make_views()[0])


def test_misuse_is_named() -> None:
    model, views = make_model(), make_views()
    with pytest.raises(ValueError, match='at least two views'):
        model(views[0], mode='loss')
    with pytest.raises(ValueError, match="got mode='train'"):
        model(views, mode='train')


def test_gradient_checkpointing_changes_no_gradient() -> None:
    results = []
    for with_cp in (False, True):
        model = make_model(dict(RESNET, with_cp=with_cp))
        model(make_views(), mode='loss')['loss'].backward()
        results.append([p.grad for p in model.parameters()])
    for plain, checkpointed in zip(*results):
        torch.testing.assert_close(plain, checkpointed)


def test_compile_takes_the_options_and_keeps_names() -> None:
    # It runs the traced graph and needs no C++ compiler.
    graphs = []

    def backend(graph: torch.fx.GraphModule, examples: list) -> Callable:
        graphs.append(
            {tuple(x.shape) for x in examples if isinstance(x, Tensor)}
        )
        return graph.forward

    plain, compiled = make_model(), make_model(compile=dict(backend=backend))
    assert list(plain.state_dict()) == list(compiled.state_dict())
    views = make_views()
    torch.testing.assert_close(
        compiled(views, mode='loss')['loss'], plain(views, mode='loss')['loss']
    )
    # The backbone at both sizes, and the neck; no size is left open.
    inputs = [(8, 3, 32, 32), (8, 3, 16, 16), (16, 64)]
    assert [shape in graph for graph, shape in zip(graphs, inputs)] == [
        True
    ] * 3 and len(graphs) == 3


def strides(model: SwAV) -> list:
    return [(name, x.stride()) for name, x in model.named_parameters()]


@pytest.mark.parametrize('channels_last', [True, False])
def test_the_layout_follows_the_device(channels_last: bool) -> None:
    # The meta device substitutes for a GPU: it has layouts but no numbers.
    model = make_model(channels_last=channels_last)
    before = strides(model)
    seen: list[Tensor] = []
    model.backbone.register_forward_pre_hook(
        lambda _, args: seen.append(args[0])
    )
    view = make_views()[0]
    for device in ('cpu', 'meta'):
        model.to(device)
        model(view.to(device))
    assert (strides(model) != before) == channels_last
    layouts = [
        images.is_contiguous(memory_format=torch.channels_last)
        for images in seen
    ]
    assert layouts == [False, channels_last]


def test_on_a_cpu_channels_last_changes_nothing() -> None:
    results = []
    for channels_last in (False, True):
        model = make_model(channels_last=channels_last).float()
        loss = model(make_views(), mode='loss')['loss']
        loss.backward()
        results.append([loss] + [p.grad for p in model.parameters()])
    for one, other in zip(*results):
        assert torch.equal(one, other)


def test_channels_last_survives_initializing_and_loading() -> None:
    contiguous = make_model(channels_last=False)
    model = make_model()
    model.backbone.to(memory_format=torch.channels_last)  # as on a GPU
    on_device = strides(model)
    assert on_device != strides(contiguous)
    model.init_weights()
    assert strides(model) == on_device
    # From a run without it, and from one that was stored and read.
    for state in (contiguous.state_dict(), model.state_dict()):
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        model.load_state_dict(torch.load(file, weights_only=True))
        assert strides(model) == on_device
        assert strides(copy.deepcopy(model)) == on_device
    # Back on a CPU, the layout is that of a CPU.
    assert strides(model.float()) == strides(contiguous)


def test_a_double_model_computes_in_float64() -> None:
    model = make_model(
        head=dict(type='SwAVHead', num_prototypes=4, queue_length=4)
    ).double()
    views = [view.double() for view in make_views()]
    seen: set[torch.dtype] = set()
    with _Results(lambda x: seen.add(x.dtype)):
        for _ in range(3):  # the queue is full from the second on
            model(views, mode='loss')['loss'].backward()
    assert model.head.queue.is_full
    assert seen & {torch.float16, torch.bfloat16, torch.float32} == set()
    assert torch.float64 in seen


class _Results(torch.utils._python_dispatch.TorchDispatchMode):
    """Shows every tensor that an operator returns."""

    def __init__(self, show: Callable[[Tensor], None]) -> None:
        super().__init__()
        self.show = show

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        results = func(*args, **(kwargs or {}))
        for result in results if isinstance(results, tuple) else [results]:
            if isinstance(result, Tensor):
                self.show(result)
        return results


def test_a_training_step_never_waits_for_the_device() -> None:
    """No value of a tensor is read by Python in forward, backward or step."""
    from swav_plugin.engine import LARS

    model = make_model(
        head=dict(type='SwAVHead', num_prototypes=12, queue_length=4)
    )
    optimizer = LARS(model.parameters(), lr=0.1)
    views = make_views()
    with _ReadsOfValues() as reads:
        for _ in range(3):  # the queue is full from the second on
            model(views, mode='loss')['loss'].backward()
            model.head.drop_prototype_gradients()
            optimizer.step()
            optimizer.zero_grad()
    assert model.head.queue.is_full
    assert reads.names == set()


class _ReadsOfValues(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes the operators through which a host waits for a device."""

    WAITING = (
        '_local_scalar_dense',
        'nonzero',
        'is_nonzero',
        'equal',
        'masked_select',
        'unique',
    )

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name.startswith(self.WAITING):
            self.names.add(name)
        return func(*args, **(kwargs or {}))


def test_the_watch_for_reads_sees_them() -> None:
    with _ReadsOfValues() as reads:
        x = torch.ones(2)
        x.sum().item()
        x.nonzero()
    assert reads.names == {'_local_scalar_dense', 'nonzero'}
