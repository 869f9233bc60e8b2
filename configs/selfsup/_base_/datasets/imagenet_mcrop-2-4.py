"""ImageNet, 2 views of 224 px and 4 of 96 px."""


def view(scale: int, crop_ratio_range: tuple) -> list:
    """Transforms of one view: `scale` px from a share of the image."""
    return [
        dict(
            type='RandomResizedCrop',
            scale=scale,
            crop_ratio_range=crop_ratio_range,
            aspect_ratio_range=(3 / 4, 4 / 3)),
        # Before the colours, as upstream; mmselfsup flips last.
        dict(type='RandomFlip', prob=0.5),
        dict(
            type='ColorJitter',
            brightness=0.8,
            contrast=0.8,
            saturation=0.8,
            hue=0.2,
            prob=0.8),
        dict(type='RandomGrayscale', prob=0.2),
        dict(type='GaussianBlur', sigma_range=(0.1, 2.0), prob=0.5),
    ]


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
        pipeline=[
            dict(type='LoadImage'),
            dict(
                type='MultiView',
                num_views=[2, 4],
                transforms=[
                    view(224, (0.14, 1.0)),
                    view(96, (0.05, 0.14)),
                ]),
            dict(type='PackViews'),
        ]))
