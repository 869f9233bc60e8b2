"""A small SwAV and small images for the tests of inference."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from swav_plugin.models import SwAV
from swav_plugin.registry import MODELS


@pytest.fixture(scope='session')
def swav() -> SwAV:
    """A random SwAV with two sets of prototypes, in eval mode."""
    torch.manual_seed(0)
    model: SwAV = MODELS.build(
        dict(
            type='SwAV',
            data_preprocessor=dict(
                type='MultiViewPreprocessor', mean=[99.0] * 3, std=[58.0] * 3
            ),
            backbone=dict(
                type='ResNet', depth=18, stem_channels=8, base_channels=8
            ),
            neck=dict(
                type='SwAVNeck',
                in_channels=64,
                hid_channels=16,
                out_channels=8,
            ),
            head=dict(type='SwAVHead', num_prototypes=[5, 7]),
        )
    )
    model.init_weights()
    return model.eval()


@pytest.fixture(scope='session')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nineteen images of noise in two folders."""
    root = tmp_path_factory.mktemp('images')
    for number in range(19):
        rng = np.random.default_rng(number)
        pixels = rng.integers(256, size=(40, 50, 3), dtype=np.uint8)
        path = root / 'ab'[number % 2] / f'{number:02}.png'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


@pytest.fixture
def with_broken(folder: Path, tmp_path: Path) -> Path:
    """The same with three files that are no images, of 31."""
    root = tmp_path / 'with_broken'
    root.mkdir()
    files = sorted(folder.rglob('*.png'))
    for number in range(28):
        file = files[number % len(files)]
        (root / f'{number:02}.png').write_bytes(file.read_bytes())
    for number in (0, 3, 17):
        (root / f'{number:02}x.png').write_bytes(b'not an image')
    return root
