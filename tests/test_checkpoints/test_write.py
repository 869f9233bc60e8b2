"""Files of other libraries are written whole, and nothing is lost."""

import hashlib
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from swav_plugin.checkpoints import convert_state_dict
from swav_plugin.checkpoints.file_kind import CheckpointError
from swav_plugin.checkpoints.write import (
    FORMATS,
    extract,
    publish,
    write_weights,
)

from .layouts import make_model, released

ENDS = {name: each.suffix or '.pth' for name, each in FORMATS.items()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / 'swav.pth.tar'
    torch.save(released(), path)
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_safetensors(source: Path, tmp_path: Path) -> None:
    safetensors = pytest.importorskip('safetensors')
    weights = convert_state_dict(released())
    # safetensors itself refuses tensors that share their memory.
    shared = torch.rand(2, 64)
    weights['backbone.bn1.weight'], weights['backbone.bn1.bias'] = shared
    torch.save(dict(state_dict=weights), source)
    out = tmp_path / 'out.safetensors'
    write_weights(source, out, 'safetensors')
    with safetensors.safe_open(out, 'pt') as file:
        about = file.metadata()
        found = {key: file.get_tensor(key) for key in file.keys()}
    assert about == dict(
        format='pt',
        author='swav_plugin',
        architecture='ResNet-18',
        source='swav.pth.tar',
        source_sha256=digest(source),
    )
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[key], weights[key]) for key in weights)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_detectron2_reads_half_precision(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    weights = {
        key: value.to(dtype) if value.is_floating_point() else value
        for key, value in released().items()
    }
    torch.save(weights, tmp_path / 'in.pth')
    write_weights(tmp_path / 'in.pth', tmp_path / 'out.pkl', 'detectron2')
    model = pickle.loads((tmp_path / 'out.pkl').read_bytes())['model']
    conv = model['stem.conv1.weight']
    # NumPy has float16 and no bfloat16; float32 holds the same numbers.
    is_half = dtype == torch.float16
    assert conv.dtype == (np.float16 if is_half else np.float32)
    wanted = weights['module.conv1.weight'].double().numpy()
    np.testing.assert_array_equal(conv.astype(float), wanted)


@pytest.mark.parametrize('layout', FORMATS)
def test_nothing_is_lost(layout: str, source: Path, tmp_path: Path) -> None:
    out = tmp_path / f'new/out{ENDS[layout]}'
    written = write_weights(source, out, layout)
    assert written.path == out and out.is_file()
    kept = digest(out)
    with pytest.raises(ValueError, match='exists already; give another'):
        write_weights(source, out, layout)
    bad = released()
    bad['module.layer4.1.bn2.bias'][0] = torch.inf
    torch.save(bad, tmp_path / 'bad.pth')
    with pytest.raises(CheckpointError, match='layer4.1.bn2.bias is not fin'):
        write_weights(tmp_path / 'bad.pth', out, layout, overwrite=True)
    assert digest(out) == kept
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    before = digest(source)
    write_weights(source, out, layout, overwrite=True)
    assert digest(source) == before


def test_the_checkpoint_itself_is_never_replaced(
    source: Path, tmp_path: Path
) -> None:
    before = digest(source)
    link, hard_link = tmp_path / 'link.pth', tmp_path / 'hard.pth'
    link.symlink_to(source)
    hard_link.hardlink_to(source)
    for out in (source, link, hard_link, tmp_path / '../' / source):
        with pytest.raises(ValueError, match='is the checkpoint itself'):
            write_weights(source, out, 'timm', overwrite=True)
        with pytest.raises(ValueError, match='is the checkpoint itself'):
            extract(source, out, 'module', False, overwrite=True)
    assert digest(source) == before


@pytest.mark.parametrize(
    'layout, name, message',
    [
        ('safetensors', 'a.pth', 'one that ends with .safetensors'),
        ('detectron2', 'a.pth', 'one that ends with .pkl'),
        ('timm', 'a.safetensors', 'end it with .pth'),
        ('mmdet', 'a.onnx', 'end it with .pth'),
        ('mmdet', '', 'is a folder'),
    ],
)
def test_names_that_readers_would_misread(
    layout: str, name: str, message: str, source: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        write_weights(source, tmp_path / name, layout, overwrite=True)
    assert not name or not (tmp_path / name).exists()


def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    torch.save(dict(state_dict=make_model().state_dict()), tmp_path / 'a.pth')
    whole = write_weights(tmp_path / 'a.pth', tmp_path / 'b.pth', 'official')
    assert whole.parts == dict(backbone=120, neck=9, prototypes=1)
    assert {*whole.left_out} == {'head.queue.features', 'head.queue.num_rows'}
    part = write_weights(tmp_path / 'a.pth', tmp_path / 'c.pth', 'mmdet')
    assert part.parts == dict(backbone=120)
    assert len(part.left_out) == 9 + 1 + 2


def save_training(path: Path) -> dict[str, Tensor]:
    """Save what a run of mmengine saves, small."""
    weights = {f'{k}': v for k, v in make_model().state_dict().items()}
    torch.save(
        dict(
            meta=dict(
                cfg='a = 1',
                epoch=3,
                best_checkpoints={'acc': 'best_acc_epoch_3.pth'},
                hook_msgs=dict(best_ckpt='/home/somebody/best.pth'),
            ),
            state_dict=weights,
            optimizer=dict(state={}, param_groups=[]),
            param_schedulers=[{}],
            message_hub=dict(log_scalars={}),
            ema_state_dict={'module.x': torch.rand(1)},
        ),
        path,
    )
    return weights


def test_publish(tmp_path: Path) -> None:
    weights = save_training(tmp_path / 'epoch_3.pth')
    written = publish(tmp_path / 'epoch_3.pth', tmp_path / 'pub/swav.pth')
    out = written.path
    found = re.fullmatch(r'swav_20\d{6}-([0-9a-f]{8})\.pth', out.name)
    assert found and digest(out).startswith(found[1])
    assert [*(tmp_path / 'pub').iterdir()] == [out]
    content = torch.load(out, weights_only=True)
    assert content.keys() == {'meta', 'state_dict'}
    assert content['meta'] == dict(cfg='a = 1', epoch=3)
    queue = {'head.queue.features', 'head.queue.num_rows'}
    assert content['state_dict'].keys() == weights.keys() - queue
    for key, value in content['state_dict'].items():
        assert torch.equal(value, weights[key]), key
    assert {*written.left_out} == queue | {
        'optimizer',
        'param_schedulers',
        'message_hub',
        'ema_state_dict',
    }


def test_publish_of_plain_weights(source: Path, tmp_path: Path) -> None:
    out = publish(source, tmp_path / 'x.pth.tar').path
    assert re.fullmatch(r'x_\d{8}-[0-9a-f]{8}\.pth', out.name)
    content = torch.load(out, weights_only=True)
    assert content['meta']['source'] == 'swav.pth.tar'
    assert content['state_dict'].keys() == released().keys()


@pytest.mark.parametrize('prefix', ['backbone', 'backbone.', 'head.queue'])
@pytest.mark.parametrize('remove', [True, False])
def test_extract(prefix: str, remove: bool, tmp_path: Path) -> None:
    weights = save_training(tmp_path / 'in.pth')
    weights['backbone2.conv1.weight'] = torch.rand(1)
    torch.save(dict(state_dict=weights), tmp_path / 'in.pth')
    extract(tmp_path / 'in.pth', tmp_path / 'out.pth', prefix, remove)
    content: Any = torch.load(tmp_path / 'out.pth', weights_only=True)
    start = prefix.rstrip('.') + '.'
    wanted = {
        key[len(start) * remove :]: value
        for key, value in weights.items()
        if key.startswith(start)
    }
    assert content['state_dict'].keys() == wanted.keys()
    for key, value in wanted.items():
        assert torch.equal(content['state_dict'][key], value), key


def test_extract_names_the_parts_that_there_are(
    source: Path, tmp_path: Path
) -> None:
    save_training(tmp_path / 'in.pth')
    for path, prefix, there in (
        (source, 'backbone', 'begin with module.'),
        (tmp_path / 'in.pth', 'back', 'begin with backbone, neck, head.'),
    ):
        with pytest.raises(CheckpointError, match=there):
            extract(path, tmp_path / 'out.pth', prefix, True)
    assert not (tmp_path / 'out.pth').exists()
