"""Check that what mmdet's visualizer draws reaches the files."""

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


ORANGE, BLUE, GREEN = (230, 140, 20), (20, 90, 200), (0, 255, 0)


@pytest.fixture
def runner(tmp_path: Path) -> Any:
    """Make the parts of a Runner that the hook uses: 10 batches of 1."""
    from mmdet.visualization import DetLocalVisualizer

    visualizer = DetLocalVisualizer(name=str(tmp_path))
    visualizer.dataset_meta = dict(classes=['cat'], palette=[GREEN])
    return SimpleNamespace(
        val_dataloader=range(10),
        test_dataloader=range(3),
        log_dir=str(tmp_path),
        visualizer=visualizer,
    )


def sample(path: Path) -> Any:
    """800 x 400 px, left orange, right blue; an object in each half.

    A sure and an unsure one, each with a box, and its lower half as mask.
    """
    from mmdet.structures import DetDataSample

    image = Image.new('RGB', (800, 400), BLUE)
    image.paste(ORANGE, (0, 0, 400, 400))
    image.save(path)
    masks = torch.zeros(2, 400, 800, dtype=torch.bool)
    masks[0, 260:320, 80:240] = True
    masks[1, 200:360, 440:720] = True
    found = DetDataSample(metainfo=dict(img_path=str(path)))
    found.pred_instances = InstanceData(
        bboxes=torch.tensor(
            [[80.0, 200.0, 240.0, 320.0], [440.0, 40.0, 720.0, 360.0]]
        ),
        masks=masks,
        scores=torch.tensor([0.9, 0.1]),
        labels=torch.tensor([0, 0]),
    )
    return found


def test_what_is_found_is_drawn_over_the_image(
    runner: Any, tmp_path: Path
) -> None:
    hook = PicturesHook()
    for batch in range(10):
        hook.after_val_iter(
            runner, batch, outputs=[sample(tmp_path / f'{batch}.png')]
        )
    files = sorted((tmp_path / 'pictures').iterdir())
    assert [file.name for file in files] == [
        f'{batch:06}-{batch}.jpg' for batch in (0, 2, 5, 7)
    ]
    for file in files:
        with Image.open(file) as picture:
            assert picture.size == (400, 200)
            pixels = np.asarray(picture, np.int64)

        def differ(rows: slice, columns: slice, color: Any) -> Any:
            return np.abs(pixels[rows, columns] - color).max(2)

        # All is at half the scale; 20 is for JPEG. Outside of the sure box,
        # the image as it was; of the unsure object there is nothing.
        everywhere = slice(None)
        assert differ(everywhere, slice(0, 30), ORANGE).max() <= 20
        assert differ(everywhere, slice(130, 190), ORANGE).max() <= 20
        assert differ(slice(0, 90), slice(0, 190), ORANGE).max() <= 20
        assert differ(slice(170, 200), slice(0, 190), ORANGE).max() <= 20
        assert differ(everywhere, slice(210, 400), BLUE).max() <= 20
        # The upper half of the box is the image, right of its text.
        assert differ(slice(108, 122), slice(102, 112), ORANGE).max() <= 20
        # 4 parts of the class's color, of which mmdet shifts each channel
        # by up to 64 for each mask, to 1 of the image.
        masked = pixels[138:152, 50:110].reshape(-1, 3)
        assert (masked.min(0) >= np.array([46, 181, 4]) - 20).all()
        assert (masked.max(0) <= np.array([97, 232, 55]) + 20).all()
        # The outline above the mask: on columns 40 and 120, row 100.
        edges = [
            pixels[106:126, 38:43],
            pixels[106:126, 118:123],
            pixels[98:103, 46:114].swapaxes(0, 1),
        ]
        for edge in edges:
            # Green less red: of the image, -90.
            assert (edge[..., 1] - edge[..., 0]).max(1).min() > 40


def test_fewer_batches_than_pictures(runner: Any, tmp_path: Path) -> None:
    hook = PicturesHook()
    for batch in range(3):
        hook.after_test_iter(
            runner, batch, outputs=[sample(tmp_path / f'{batch}.png')]
        )
    assert len([*(tmp_path / 'pictures').iterdir()]) == 3
