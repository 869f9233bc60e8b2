"""Images of 224 px: a random box for training, the center for tests.

ImageNet's; Places205 and iNaturalist 2018 change data_root and ann_file.
Images are in one folder for each class. If they are not, as in a flat val,
ann_file names a list of lines "path label"; it and its paths are relative to
data_root.
"""

train_dataloader = dict(
    batch_size=32,  # per GPU
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='KeyedSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ImageFolder',
        data_root='data/imagenet/train',
        ann_file='',
        pipeline=[
            dict(type='LoadImage'),
            dict(
                type='RandomResizedCrop',  # bilinear, Pillow
                size=224,
                crop_ratio_range=(0.08, 1.0),
                aspect_ratio_range=(3 / 4, 4 / 3),
            ),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackViews'),
        ],
    ),
)

val_dataloader = dict(
    batch_size=64,  # per GPU
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    # Each image on one rank only: none is counted twice.
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ImageFolder',
        data_root='data/imagenet/val',
        ann_file='',
        test_mode=True,
        pipeline=[
            dict(type='LoadImage'),
            dict(type='ResizeEdge', scale=256, edge='short', backend='pillow'),
            dict(type='CenterCrop', crop_size=224),
            dict(type='PackViews'),
        ],
    ),
)
test_dataloader = val_dataloader
