"""kNN on Imagenette in training, k = 20 and 200, T = 0.1 (lightly's).

So are its images: short side 128 px, the middle. val_cfg=None turns it off.
"""

from mmcv.transforms import CenterCrop
from mmengine.dataset import default_collate
from mmpretrain.datasets import ResizeEdge

from swav_plugin.datasets import ImageFolder
from swav_plugin.datasets.transforms import LoadImage, PackViews
from swav_plugin.evaluation import KNN, FeatureEvalLoop


def images(split: str) -> dict:
    """Dataloader of labeled images."""
    return dict(
        batch_size=256,
        num_workers=4,
        persistent_workers=True,
        pin_memory=True,
        collate_fn=dict(type=default_collate),
        dataset=dict(
            type=ImageFolder,
            data_root=f'data/imagenette2-160/{split}',
            test_mode=True,
            pipeline=[
                dict(type=LoadImage),
                dict(
                    type=ResizeEdge,
                    scale=128,
                    edge='short',
                    backend='pillow',
                ),
                dict(type=CenterCrop, crop_size=128),
                dict(type=PackViews),
            ],
        ),
    )


val_dataloader = images('val')
val_evaluator = [dict(type=KNN, k=[20, 200], temperature=0.1)]
val_cfg = dict(
    type=FeatureEvalLoop,
    bank_dataloader=images('train'),
    features=['avgpool'],
)
