"""What the documents say of mim, where it is installed: CI's job `mim`.

Of openmim, and of onedl-mim, which finds the package in a checkout only.
"""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import swav_plugin
from swav_plugin.shipped import find_config

pytest.importorskip('mim')

ROOT = Path(swav_plugin.__file__).parent.parent
IS_CHECKOUT = (ROOT / 'setup.cfg').is_file()


def is_onedl_mim() -> bool:
    """Return whether `mim` is onedl's."""
    try:
        return bool(version('onedl-mim'))
    except PackageNotFoundError:
        return False


def mim(cwd: Path, *arguments: object) -> str:
    """Run mim in a folder; openmim, in a checkout, in its root."""
    done = subprocess.run(
        [sys.executable, '-m', 'mim', *map(str, arguments)],
        cwd=ROOT if IS_CHECKOUT and not is_onedl_mim() else cwd,
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout


def test_search_lists_the_models(tmp_path: Path) -> None:
    told = mim(tmp_path, 'search', 'swav_plugin')
    assert 'swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96' in told


def test_train_writes_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / 'images').mkdir()
    rng = np.random.default_rng(0)
    for index in range(32):
        pixels = rng.integers(256, size=(40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'images/{index}.png')
    config = find_config('swav_demo_images')
    mim(
        tmp_path,
        'train',
        'swav_plugin',
        config if is_onedl_mim() else config.name,
        '--gpus',
        '0',
        '--work-dir',
        tmp_path / 'work_dir',
        '--data',
        tmp_path / 'images',
        '--cfg-options',
        'train_cfg.max_epochs=1',
        'train_dataloader.batch_size=16',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'model.head.queue_length=0',
        'default_hooks.report=None',
    )
    assert (tmp_path / 'work_dir/epoch_1.pth').is_file()
