"""The recipe of these tests: all that has a state, made small.

Queue, frozen prototypes, drop path, AMP, momentum, and gradients that wait at
the end of an epoch of five batches. GroupNorm, so that the split of a batch
over ranks is free.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from swav_plugin.commands import train
from swav_plugin.shipped import CONFIGS

CONFIG = """
_base_ = [
    '{bases}/models/swav_resnet18.py',
    '{bases}/datasets/imagenette_mcrop-2-6.py',
    '{bases}/schedules/lars_coslr_bs256.py',
    '{bases}/default_runtime.py',
]
norm_cfg = dict(type='GN', num_groups=4)
model = dict(
    backbone=dict(
        stem_channels=8, base_channels=8, norm_cfg=norm_cfg,
        drop_path_rate=0.2),
    neck=dict(
        in_channels=64, hid_channels=32, out_channels=16, norm_cfg=norm_cfg),
    head=dict(num_prototypes=20, queue_length=32))
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(data_root='{images}'))
train_cfg = dict(max_epochs={epochs})
optim_wrapper = dict(
    type='AmpOptimWrapper', dtype='bfloat16', accumulative_counts=2)
default_hooks = dict(
    logger=dict(interval=1),
    checkpoint=dict(interval=1, interval_iters=1),
    swav=dict(freeze_prototypes_iters=2),
    report=None)
views = _base_.train_dataloader.dataset.pipeline
views[1].num_views = [2, 2]
views[1].sizes = [32, 16]
train_dataloader['dataset']['pipeline'] = views
log_processor = dict(window_size=1)
"""


def draw_images(folder: Path, num_images: int = 40) -> Path:
    """Draw JPEGs into a folder; 40 are 5 batches of 8."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(num_images):
        coarse = np.random.default_rng(number).integers(256, size=(5, 5, 3))
        image = Image.fromarray(coarse.astype(np.uint8)).resize((64, 64))
        image.save(folder / f'{number}.jpg')
    return folder


def write_config(
    path: Path, images: Path, more: str = '', epochs: int = 2
) -> str:
    """Write the config, with more lines at its end; return its path."""
    bases = CONFIGS / 'selfsup/_base_'
    text = CONFIG.format(bases=bases, images=images, epochs=epochs)
    path.write_text(text + more)
    return str(path)


def final_state(work_dir: Path) -> dict[str, Tensor]:
    """Return weights, queue and momenta of a run that has ended."""
    path = Path((work_dir / 'last_checkpoint').read_text())
    assert path.name.startswith(('epoch_', 'iter_')), path
    content = torch.load(path, weights_only=True)
    momenta = {
        str(index): state['momentum_buffer']
        for index, state in content['optimizer']['state'].items()
    }
    assert momenta
    return {**content['state_dict'], **momenta}


def differences(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    """Name the tensors that are not the same, bit for bit."""
    assert one.keys() == other.keys()
    return [key for key in one if not torch.equal(one[key], other[key])]


def losses(work_dir: Path) -> dict[int, float]:
    """Logged loss of each iteration; of several runs the last counts."""
    logged = {}
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        # A run that was killed may leave half a line.
        for line in file.read_text().splitlines():
            if line.endswith('}'):
                scalars = json.loads(line)
                if 'loss' in scalars:
                    logged[scalars['iter']] = scalars['loss']
    return logged


def train_here(
    monkeypatch: pytest.MonkeyPatch, config: str, work_dir: Path, *argv: str
) -> None:
    """Train in this process."""
    options = ['--cfg-options', f'experiment_name={time.monotonic_ns()}']
    arguments = ['--work-dir', str(work_dir), *argv, *options]
    monkeypatch.setattr(sys, 'argv', ['train.py', config, *arguments])
    train.main()
