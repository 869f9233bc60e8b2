"""SwAV on handwritten digits: learns on a CPU in minutes. Used by `make demo`.

Data: scikit-learn's 1,797 digits of 8x8 px as PNG files under data/digits;
`make demo` writes them and sets the folder.

Command:
    python tools/train.py configs/selfsup/swav/swav_demo_digits.py \
--cfg-options train_dataloader.dataset.data_root=FOLDER

With ImageNet's augmentation and epsilon 0.05 this set collapses to ln 60 =
4.09 within 100 iterations, as any small easy set does. Hence large crops, no
flip, mild colors, few prototypes, epsilon 0.03, prototypes frozen at first.
"""

_base_ = ['../_base_/models/swav_resnet18.py', '../_base_/default_runtime.py']


def view(size: int, crop_ratio_range: tuple) -> list:
    """Return the transforms of one view of `size` pixels."""
    return [
        # No flip: a mirrored digit is another character.
        dict(type='RandomRotation', max_angle_rad=0.2),
        dict(
            type='RandomResizedCrop',
            size=size,
            crop_ratio_range=crop_ratio_range,
            aspect_ratio_range=(3 / 4, 4 / 3),
        ),
        dict(
            type='ColorJitter',
            brightness=0.2,
            contrast=0.2,
            saturation=0.0,
            hue=0.0,
            prob=1.0,
        ),
    ]


model = dict(
    # Three stages that reduce 32 px to 4x4, 175,000 parameters. The stem of an
    # ImageNet ResNet would leave 1x1.
    backbone=dict(
        _delete_=True,
        type='ResNet_CIFAR',
        depth=18,
        num_stages=3,
        out_indices=(2,),
        strides=(2, 2, 2),
        dilations=(1, 1, 1),
        stem_channels=16,
        base_channels=16,
        norm_cfg=dict(type='BN'),
        zero_init_residual=False,
    ),
    neck=dict(in_channels=64, hid_channels=128, out_channels=64),
    head=dict(num_prototypes=60, queue_length=0, epsilon=0.03),
)

train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='KeyedSampler', shuffle=True),
    collate_fn=dict(type='collate_views'),
    dataset=dict(
        type='ImageFolder',
        data_root='data/digits',
        pipeline=[
            dict(type='LoadImage'),
            dict(
                type='MultiView',
                num_views=[2, 2],
                transforms=[
                    view(32, (0.6, 1.0)),
                    view(16, (0.3, 0.6)),
                ],
            ),
            dict(type='PackViews'),
        ],
    ),
)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=1e-4),
)

param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.0,
        begin=0,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=24)

auto_scale_lr = dict(enable=False, base_batch_size=64)

default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=24),
    swav=dict(freeze_prototypes_iters=30),
)
