"""`CocoMetric`: mmdet's, for files of one's own too. Needs mmdet.

A config that uses it imports it, see `datasets.coco_detection`.
"""

from typing import Any

from mmdet.evaluation.metrics import CocoMetric as MMDetCocoMetric

from swav_plugin.datasets.coco_detection import CompleteCoco
from swav_plugin.registry import METRICS


@METRICS.register_module()
class CocoMetric(MMDetCocoMetric):
    """Compute COCO's numbers on annotations that are completed first.

    With ids that begin at 0, pycocotools would take a found object for none.

    Args:
        ann_file: The annotations; None for those of the dataset.
        options: Those of mmdet's.
    """

    def __init__(self, ann_file: str | None = None, **options: Any) -> None:
        super().__init__(ann_file=None, **options)
        if ann_file is not None:
            needs_masks = 'segm' in self.metrics
            self._coco_api = CompleteCoco(ann_file, needs_masks=needs_masks)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the numbers; `results` is what `process` has kept."""
        if self._coco_api is not None:
            for image, _ in results:
                # Which the file need not tell: masks have the size of images.
                for side in ('height', 'width'):
                    own = self._coco_api.imgs[image['img_id']]
                    own[side] = image[side]
        return super().compute_metrics(results)
