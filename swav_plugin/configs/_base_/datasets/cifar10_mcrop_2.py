"""CIFAR-10, 2 views of 32 px; kNN in training, k = 200, T = 0.1 (lightly's).

val_cfg=None turns the kNN off.
"""

from mmengine.dataset import default_collate

from swav_plugin.datasets import KeyedSampler, collate_views
from swav_plugin.datasets.cifar import CIFAR10
from swav_plugin.datasets.transforms import MultiCrop, PackViews
from swav_plugin.evaluation import KNN, FeatureEvalLoop

train_dataloader = dict(
    batch_size=512,  # per GPU
    num_workers=8,
    prefetch_factor=2,  # batches that each worker has ready
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type=KeyedSampler, shuffle=True),
    collate_fn=dict(type=collate_views),
    dataset=dict(
        type=CIFAR10,  # mmpretrain's, with batches cut at once
        data_root='data/cifar10',
        split='train',
        download=False,
        pipeline=[
            dict(
                type=MultiCrop,
                num_views=[2],
                sizes=[32],
                crop_ratio_ranges=[(0.14, 1.0)],
                aspect_ratio_range=(3 / 4, 4 / 3),
                flip_prob=0.5,
                brightness=0.4,
                contrast=0.4,
                saturation=0.4,
                hue=0.1,
                jitter_prob=0.8,
                grayscale_prob=0.2,
                blur_prob=0.0,
            ),
            dict(type=PackViews),
        ],
    ),
)


def images(split: str) -> dict:
    """Dataloader of labeled images."""
    return dict(
        batch_size=512,
        num_workers=2,
        persistent_workers=True,
        pin_memory=True,
        collate_fn=dict(type=default_collate),
        dataset=dict(
            type=CIFAR10,
            data_root='data/cifar10',
            split=split,
            download=False,
            test_mode=True,
            pipeline=[dict(type=PackViews)],
        ),
    )


val_dataloader = images('test')
val_evaluator = [dict(type=KNN, k=[20, 200], temperature=0.1)]
val_cfg = dict(
    type=FeatureEvalLoop,
    bank_dataloader=images('train'),
    features=['avgpool'],
)
