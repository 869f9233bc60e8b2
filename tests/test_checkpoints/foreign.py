"""Checkpoints as other projects write them, from plain torch modules.

Each writer puts the numbers of a `Network` under the project's names, and
knows nothing of the package's tables.
"""

import argparse
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

SIZE = 5  # K and D: square, so that no shape tells a transposed matrix


class Network(NamedTuple):
    """A ResNet, a projection head, and sets of prototypes."""

    resnet: nn.Module
    neck: nn.Module
    prototypes: nn.ModuleList

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return features and the scores of each set."""
        features = self.resnet(images)
        embeddings = nn.functional.normalize(self.neck(features), dim=1)
        return features, [each(embeddings) for each in self.prototypes]


def make_network(
    depth: int = 18,
    has_norm: bool = True,
    num_sets: int = 1,
    has_bias: bool = True,
    is_cifar: bool = False,
) -> Network:
    torch.manual_seed(depth)
    resnet = getattr(torchvision.models, f'resnet{depth}')()
    width = resnet.fc.in_features
    resnet.fc = nn.Identity()
    if is_cifar:
        resnet.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        resnet.maxpool = nn.Identity()
    hidden = width if depth == 18 else 6
    norm = [nn.BatchNorm1d(hidden)] if has_norm else []
    neck = nn.Sequential(
        nn.Linear(width, hidden, bias=has_bias),
        *norm,
        nn.ReLU(),
        nn.Linear(hidden, SIZE),
    )
    prototypes = nn.ModuleList(
        nn.Linear(SIZE, SIZE, bias=False) for _ in range(num_sets)
    )
    for module in [*resnet.modules(), *neck]:
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d)):
            for vector in (module.running_mean, module.bias.data):
                vector.normal_(0, 0.1)
            for vector in (module.running_var, module.weight.data):
                vector.uniform_(0.5, 1.5)
            module.num_batches_tracked.fill_(7)
    network = Network(resnet, neck, prototypes)
    for part in network:
        part.double().eval()
    return network


def _named(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {f'{prefix}{k}': v for k, v in module.state_dict().items()}


def upstream(net: Network, prefix: str = 'module.') -> dict[str, Tensor]:
    weights = _named(net.resnet, prefix)
    weights |= _named(net.neck, f'{prefix}projection_head.')
    if len(net.prototypes) == 1:
        return weights | _named(net.prototypes[0], f'{prefix}prototypes.')
    for i, each in enumerate(net.prototypes):
        weights |= _named(each, f'{prefix}prototypes.prototypes{i}.')
    return weights


def mmselfsup(net: Network, head: str = 'head.') -> dict[str, Tensor]:
    weights = _named(net.resnet, 'backbone.')
    weights |= _named(net.neck, 'neck.projection_neck.')
    weights |= _named(net.neck[1], 'neck.norm.')
    return weights | _named(net.prototypes[0], f'{head}prototypes.')


def _to_paddle(module: nn.Module, prefix: str) -> dict[str, np.ndarray]:
    """Write a module as Paddle does: linear layers are transposed."""
    arrays = {}
    for name, part in module.named_modules():
        start = f'{prefix}{name}.' if name else prefix
        for key, value in part.named_parameters(recurse=False):
            is_linear = isinstance(part, nn.Linear) and key == 'weight'
            arrays[start + key] = (value.T if is_linear else value).detach()
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            arrays[f'{start}_mean'] = part.running_mean
            arrays[f'{start}_variance'] = part.running_var
    return {key: value.numpy().copy() for key, value in arrays.items()}


def passl_2022(net: Network) -> dict[str, np.ndarray]:
    weights = _to_paddle(net.resnet, 'backbone.')
    weights |= _to_paddle(net.neck, 'neck.projection_neck.')
    return weights | _to_paddle(net.prototypes[0], 'head.prototypes.')


def passl_2023(net: Network) -> dict[str, Any]:
    """As `paddle.save` writes it: with names, and large arrays in slices."""
    weights = _to_paddle(net.resnet, 'res_model.encoder.')
    weights |= _to_paddle(net.neck, 'res_model.projection_head.')
    weights |= _to_paddle(net.prototypes[0], 'res_model.prototypes.')
    saved: dict[str, Any] = {
        name: (f'param_{i}', value)
        for i, (name, value) in enumerate(weights.items())
    }
    saved['StructuredToParameterName@@'] = {name: 'x' for name in weights}
    name = 'res_model.projection_head.0.weight'
    _, value = saved.pop(name)
    slices = np.array_split(value.reshape(-1), 3)
    for i, part in enumerate(slices):
        saved[f'{name}@@.{i}'] = part
    saved['UnpackBigParamInfor@@'] = {
        name: dict(
            OriginShape=value.shape,
            slices=[f'{name}@@.{i}' for i in range(3)],
        )
    }
    return saved


def vissl(net: Network, is_sharded: bool = False) -> dict[str, Any]:
    head = _named(net.neck, 'projection_head.')
    for i, each in enumerate(net.prototypes):
        head |= _named(each, f'prototypes{i}.')
    heads: Any = [head]
    if not is_sharded:
        heads = {f'0.{key}': value for key, value in head.items()}
    trunk = _named(net.resnet, '_feature_blocks.')
    base_model = dict(
        model=dict(trunk=trunk, heads=heads), meta=dict(trunk={}, heads=[])
    )
    loss = {'local_queue': torch.rand(2, 4, SIZE)}
    return dict(
        phase_idx=3,
        loss=loss,
        classy_state_dict=dict(base_model=base_model, meters=[], losses=[1.5]),
    )


def lightly(net: Network) -> dict[str, Tensor]:
    weights = _named(net.resnet, 'backbone.')
    weights |= _named(net.neck, 'projection_head.layers.')
    bias = torch.zeros(SIZE)
    for i, each in enumerate(net.prototypes):
        weights |= _named(each, f'prototypes.heads.{i}.')
        weights[f'prototypes.heads.{i}.bias'] = bias
    weights['online_classifier.classification_head.weight'] = bias
    return weights


def lightly_sequential(net: Network, prefix: str = 'backbone.') -> dict:
    modules = nn.Sequential(*list(net.resnet.children())[:-1])
    weights = lightly(net)
    return {
        **{k: v for k, v in weights.items() if not k.startswith('backbone')},
        **_named(modules, prefix),
    }


def solo_learn(net: Network, name: str = 'backbone', is_new: bool = False):
    weights = _named(net.resnet, f'{name}.')
    weights |= _named(net.neck, 'projector.')
    linear = nn.Linear(SIZE, SIZE, bias=False).double()
    length = torch.rand(SIZE, 1, dtype=torch.float64) + 0.5
    new, old = nn.utils.parametrizations.weight_norm, nn.utils.weight_norm
    linear = (new if is_new else old)(linear)
    state = linear.state_dict()
    for key, value in state.items():
        if value.shape == (SIZE, 1):
            state[key] = length
    linear.load_state_dict(state)
    with torch.no_grad():
        linear(torch.zeros(1, SIZE).double())  # the old one sets the weight
        net.prototypes[0].weight.copy_(linear.weight)
    weights |= _named(linear, 'prototypes.')
    weights |= _named(nn.Linear(SIZE, 3), 'classifier.')
    weights['queue'] = torch.rand(2, 4, SIZE)
    return weights


def easycv(net: Network) -> dict[str, Tensor]:
    weights = _named(net.resnet, 'backbone.')
    for name, i in dict(fc0=0, bn0=1, fc1=3).items():
        weights |= _named(net.neck[i], f'neck.{name}.')
    return weights | _named(net.prototypes[0], 'prototypes.')


def _lightning(weights: dict) -> dict[str, Any]:
    """Wrap weights as Lightning does, with settings of its user's."""
    settings = argparse.Namespace(lr=4.8, path=Path('a'), size=int)
    return {
        'epoch': 3,
        'pytorch-lightning_version': '2.1.2',
        'state_dict': weights,
        'hyper_parameters': {'args': settings, 'kind': nn.Linear},
        'optimizer_states': [{'state': {}, 'param_groups': []}],
    }


def _pickled(protocol: int) -> Callable[[Any, Path], None]:
    return lambda content, path: path.write_bytes(
        pickle.dumps(content, protocol)
    )


def _old(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def _safetensors(content: dict[str, Tensor], path: Path) -> None:
    save_file({k: v.contiguous() for k, v in content.items()}, path)


class Case(NamedTuple):
    """A file: how it is written, and what of it the description says."""

    write: Callable[[Network], Any]
    layout: str
    network: dict[str, Any] = {}
    save: Callable[[Any, Path], None] = torch.save


def _student(net: Network) -> dict[str, Any]:
    student = {k: v + 1 for k, v in upstream(net, 'backbone.').items()}
    return dict(student=student, teacher=upstream(net, ''), epoch=3)


def _flat_student(net: Network) -> dict[str, Tensor]:
    """With the student after the teacher, in one dict."""
    student = upstream(make_network(18), 'student.')
    return upstream(net, 'teacher.') | {k: -v for k, v in student.items()}


def _lightning_student(net: Network) -> dict[str, Any]:
    """The same inside of a module that Lightning calls `model`."""
    flat = {f'model.{key}': value for key, value in _flat_student(net).items()}
    return dict(state_dict=flat)


_PLAIN = dict(has_bias=False)
CASES = {
    'released': Case(upstream, 'upstream'),
    'old format': Case(upstream, 'upstream', {}, _old),
    'safetensors': Case(upstream, 'upstream', {}, _safetensors),
    'ResNet-50': Case(upstream, 'upstream', dict(depth=50)),
    'training': Case(
        lambda net: dict(epoch=3, state_dict=upstream(net), amp={}), 'upstream'
    ),
    'no norm, as w5': Case(upstream, 'upstream', dict(has_norm=False)),
    'DeepCluster-v2': Case(upstream, 'upstream', dict(num_sets=3)),
    'compiled': Case(
        lambda net: {'model_state_dict': upstream(net, '_orig_mod.module.')},
        'upstream',
    ),
    'model in model': Case(
        lambda net: dict(model=dict(state_dict=upstream(net, 'model.'))),
        'upstream',
    ),
    'teacher and student': Case(_student, 'upstream'),
    'both in one': Case(_flat_student, 'upstream'),
    'both in a model': Case(_lightning_student, 'upstream'),
    'mmselfsup 0.x': Case(
        lambda net: dict(meta={}, state_dict=mmselfsup(net)), 'mmselfsup'
    ),
    'mmpretrain': Case(
        lambda net: dict(state_dict=mmselfsup(net, 'head.loss_module.')),
        'mmselfsup 1.x or mmpretrain',
    ),
    'PASSL 2022': Case(
        lambda net: dict(
            epoch=3,
            state_dict=passl_2022(net),
            optimizer={'x_velocity': np.ones(3), 'LR': {'last_lr': 0.1}},
            lr_scheduler={'last_epoch': 3},
        ),
        'PASSL (v1.1.0)',
        {},
        _pickled(2),
    ),
    'PASSL 2023': Case(passl_2023, 'PASSL (2023)', {}, _pickled(4)),
    'VISSL': Case(vissl, 'VISSL', dict(num_sets=2)),
    'VISSL, sharded': Case(lambda net: vissl(net, is_sharded=True), 'VISSL'),
    'lightly': Case(
        lambda net: _lightning(lightly(net)),
        'lightly',
        dict(has_bias=False, num_sets=2),
    ),
    'lightly, Sequential': Case(lightly_sequential, 'lightly', _PLAIN),
    'solo-learn': Case(lambda net: _lightning(solo_learn(net)), 'solo-learn'),
    'solo-learn, new torch': Case(
        lambda net: solo_learn(net, is_new=True), 'solo-learn'
    ),
    'solo-learn, old': Case(
        lambda net: solo_learn(net, 'encoder'),
        'solo-learn',
        dict(is_cifar=True),
    ),
    'EasyCV': Case(
        lambda net: dict(meta={}, state_dict=easycv(net)), 'EasyCV'
    ),
}

BACKBONES = {
    'torchvision': Case(
        lambda net: _named(net.resnet, ''), 'torchvision or timm'
    ),
    'PASSL, extracted': Case(
        lambda net: dict(state_dict=_to_paddle(net.resnet, '')),
        'PASSL (v1.1.0)',
        {},
        _pickled(2),
    ),
    'lightly, extracted': Case(
        lambda net: _named(
            nn.Sequential(*list(net.resnet.children())[:-1]), ''
        ),
        'lightly',
    ),
    'parts in dicts': Case(
        lambda net: dict(backbone=net.resnet.state_dict(), neck={}),
        'OpenMMLab',
    ),
}
