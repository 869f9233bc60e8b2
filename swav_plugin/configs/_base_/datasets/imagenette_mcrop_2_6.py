"""Imagenette, 2 views of 128 px and 6 of 64 px."""

from swav_plugin.datasets import ImageFolder, KeyedSampler, collate_views
from swav_plugin.datasets.transforms import LoadImage, MultiCrop, PackViews

train_dataloader = dict(
    batch_size=256,  # per GPU
    num_workers=8,
    prefetch_factor=2,  # batches that each worker has ready
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type=KeyedSampler, shuffle=True),
    collate_fn=dict(type=collate_views),
    dataset=dict(
        type=ImageFolder,
        data_root='data/imagenette2-160/train',
        pipeline=[
            dict(type=LoadImage),
            dict(
                type=MultiCrop,
                num_views=[2, 6],
                sizes=[128, 64],
                crop_ratio_ranges=[(0.14, 1.0), (0.05, 0.14)],
                aspect_ratio_range=(3 / 4, 4 / 3),
                flip_prob=0.5,
                # Half of SwAV's strength on ImageNet: see lightly, and the
                # author's advice in facebookresearch/swav#23.
                brightness=0.4,
                contrast=0.4,
                saturation=0.4,
                hue=0.1,
                jitter_prob=0.8,
                grayscale_prob=0.2,
                sigma_range=(0.1, 2.0),
                blur_prob=0.5,
            ),
            dict(type=PackViews),
        ],
    ),
)
