"""ImageNet, 2 views of 224 px and 6 of 96 px."""

from swav_plugin.datasets import ImageFolder, KeyedSampler, collate_views
from swav_plugin.datasets.transforms import LoadImage, MultiCrop, PackViews

train_dataloader = dict(
    batch_size=32,  # per GPU
    num_workers=8,
    prefetch_factor=2,  # batches that each worker has ready
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type=KeyedSampler, shuffle=True),
    collate_fn=dict(type=collate_views),
    dataset=dict(
        type=ImageFolder,
        data_root='data/imagenet/train',
        pipeline=[
            dict(type=LoadImage),
            dict(
                type=MultiCrop,
                num_views=[2, 6],
                sizes=[224, 96],
                crop_ratio_ranges=[(0.14, 1.0), (0.05, 0.14)],
                aspect_ratio_range=(3 / 4, 4 / 3),
                flip_prob=0.5,
                brightness=0.8,
                contrast=0.8,
                saturation=0.8,
                hue=0.2,
                jitter_prob=0.8,
                grayscale_prob=0.2,
                sigma_range=(0.1, 2.0),
                blur_prob=0.5,
            ),
            dict(type=PackViews),
        ],
    ),
)
