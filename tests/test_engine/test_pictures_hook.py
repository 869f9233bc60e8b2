"""What mmdet's visualizer draws reaches the files."""
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import swav_plugin  # noqa: F401 isort:skip  before mmdet

import numpy as np
import torch
from mmengine.structures import InstanceData
from PIL import Image

from swav_plugin.engine import PicturesHook

pytest.importorskip('mmdet', reason='needs the extra onedl-downstream')


@pytest.fixture
def runner(tmp_path: Path) -> Any:
    """What the hook asks of a Runner: 10 batches of 1."""
    from mmdet.visualization import DetLocalVisualizer
    visualizer = DetLocalVisualizer(name=str(tmp_path))
    visualizer.dataset_meta = dict(classes=['cat'], palette=[(255, 0, 0)])
    return SimpleNamespace(val_dataloader=range(10), test_dataloader=range(3),
                           log_dir=str(tmp_path), visualizer=visualizer)


def sample(path: Path) -> Any:
    """A black image of 800 x 400 px; a box with and one without score."""
    from mmdet.structures import DetDataSample
    Image.new('RGB', (800, 400)).save(path)
    found = DetDataSample(metainfo=dict(img_path=str(path)))
    found.pred_instances = InstanceData(
        bboxes=torch.tensor([[80., 200., 240., 320.],
                             [400., 40., 720., 360.]]),
        scores=torch.tensor([.9, .1]), labels=torch.tensor([0, 0]))
    return found


def test_boxes_of_chosen_batches(runner: Any, tmp_path: Path) -> None:
    hook = PicturesHook()
    for batch in range(10):
        hook.after_val_iter(
            runner, batch, outputs=[sample(tmp_path / f'{batch}.png')])
    files = sorted((tmp_path / 'pictures').iterdir())
    assert [file.name for file in files] == [
        f'{batch:06}-{batch}.jpg' for batch in (0, 2, 5, 7)]
    with Image.open(files[0]) as picture:
        assert picture.size == (400, 200)
        pixels = np.asarray(picture, np.int64)
    # The left and the lower edge of the sure box, at half the scale.
    assert (pixels[115:155, 38:43, 0].max(1) > 100).all()
    assert (pixels[157:163, 45:115, 0].max(0) > 100).all()
    assert pixels[:, 180:].max() < 30  # JPEG's, of the unsure one nothing


def test_fewer_batches_than_pictures(runner: Any, tmp_path: Path) -> None:
    hook = PicturesHook()
    for batch in range(3):
        hook.after_test_iter(
            runner, batch, outputs=[sample(tmp_path / f'{batch}.png')])
    assert len([*(tmp_path / 'pictures').iterdir()]) == 3
