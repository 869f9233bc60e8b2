"""`CocoDataset`: mmdet's, for files of one's own too. Needs mmdet.

A config that uses it imports it (`custom_imports`), so that nothing else
needs mmdet.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset as MMDetCocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmengine.logging import print_log

from swav_plugin.registry import DATASETS

from .coco import complete_coco, read_coco
from .list_file import find_missing


class CompleteCoco(COCO):
    """Annotations that `complete_coco` has completed.

    Args:
        annotation_file: The JSON file; it is not changed.
        image_root: Folder of the images, if they are to give missing sizes.
        needs_masks: Every object must have a mask.
        classes: Some of the categories, in the order of the file; None for
            all. With others, labels would mean something else.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be used, or has different categories.
    """

    def __init__(
        self,
        annotation_file: str,
        image_root: str | None = None,
        needs_masks: bool = False,
        classes: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        # Lists of test images for COCO's server have no annotations.
        content = read_coco(Path(annotation_file), ('images', 'categories'))
        if 'annotations' in content:
            try:
                remarks = complete_coco(content, image_root, needs_masks)
            except ValueError as error:
                raise ValueError(f'{annotation_file}: {error}') from None
            for line in remarks:
                print_log(f'{annotation_file}: {line}', logger='current')
        names = [category['name'] for category in content['categories']]
        if classes is not None and [*classes] != [
            name for name in names if name in classes
        ]:
            raise ValueError(
                f'{annotation_file} has the categories {names}, but '
                f'metainfo.classes of the dataset is {[*classes]}; give it '
                'categories of the file, in the same order, and the model as '
                'many num_classes.'
            )
        self.dataset = content
        self.createIndex()
        self.img_ann_map = self.imgToAnns
        self.cat_img_map = self.catToImgs


@DATASETS.register_module()
class CocoDataset(MMDetCocoDataset):
    """Read boxes, and masks where the pipeline asks for them.

    Like mmdet's, with annotations as `complete_coco` completes them.

    Raises:
        FileNotFoundError: The annotations or an image are missing.
        ValueError: The annotations cannot be used, or their categories are
            not `metainfo['classes']`, in this order.
    """

    def load_data_list(self) -> list[dict]:
        """Read the annotations; check that all images are there."""
        self.COCOAPI: Any = partial(
            CompleteCoco,
            image_root=self.data_prefix['img'],
            needs_masks=any(
                getattr(transform, 'with_mask', False)
                for transform in self.pipeline.transforms
            ),
            classes=self.metainfo['classes'],
        )
        data_list = super().load_data_list()
        missing = find_missing([info['img_path'] for info in data_list])
        if missing:
            raise FileNotFoundError(
                f'{len(missing):,} of {len(data_list):,} images of '
                f'{self.ann_file} do not exist; the first is '
                f'{data_list[missing[0]]["img_path"]}.'
            )
        return data_list
