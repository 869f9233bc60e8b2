"""Draw what a detector or a segmentation network finds in a few images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmcv
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from swav_plugin.datasets.transforms.pillow_files import open_image
from swav_plugin.registry import HOOKS


@HOOKS.register_module()
class PicturesHook(Hook):
    """Keep pictures of the last evaluation in `pictures/`.

    The visualizer of mmdet or mmseg draws boxes, masks or maps over the same
    images in every evaluation: the first of each of a few batches, which are
    evenly spaced. The files are in the folder of this run's log.

    Args:
        num_pictures: At least 1; there are fewer if there are fewer batches.
        max_width_px: Wider pictures are shrunk.
    """

    def __init__(self, num_pictures: int = 4, max_width_px: int = 400) -> None:
        self.num_pictures = num_pictures
        self.max_width_px = max_width_px

    def _after_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence | None = None,
        mode: str = 'train',
    ) -> None:
        """Draw in an evaluation, which is what `mode` 'val' and 'test' are."""
        if mode != 'train':
            loader = getattr(runner, f'{mode}_dataloader')
            self._draw(runner, loader, batch_idx, outputs)

    def _draw(
        self,
        runner: Runner,
        loader: DataLoader,
        batch_idx: int,
        outputs: Sequence | None,
    ) -> None:
        chosen = {
            len(loader) * i // self.num_pictures
            for i in range(self.num_pictures)
        }
        if not is_main_process() or batch_idx not in chosen or not outputs:
            return
        sample = outputs[0]
        name = Path(sample.img_path).stem
        path = Path(runner.log_dir, 'pictures', f'{batch_idx:06}-{name}.jpg')
        path.parent.mkdir(exist_ok=True)
        lossless = path.with_suffix('.png')
        runner.visualizer.add_datasample(
            name,
            mmcv.imread(sample.img_path, channel_order='rgb'),
            data_sample=sample,
            draw_gt=False,
            out_file=str(lossless),
        )
        with open_image(lossless, ['PNG']) as drawn:
            drawn.thumbnail((self.max_width_px, drawn.height))  # width only
            drawn.convert('RGB').save(path, quality=85)
        lossless.unlink()
