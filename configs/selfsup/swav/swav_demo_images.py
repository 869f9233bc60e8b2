"""SwAV on a folder of your own images, small enough for a CPU.

Used by `make demo DATA=/path/to/images`. It is a taste of the method, not a
recipe for good features: views of 64 and 32 px, ResNet-18 at half its width,
few prototypes. Any folder will do, with or without class folders; several
hundred images at least.

Command:
    python tools/train.py configs/selfsup/swav/swav_demo_images.py \
--cfg-options train_dataloader.dataset.data_root=FOLDER

Set train_cfg.max_epochs so that about 300 iterations come out (64 images
each); the learning rate follows. If the loss stays at ln 64 = 4.16: fewer
prototypes, epsilon 0.02, larger crops or weaker colors. With some thousand
images and a GPU use the Imagenette recipe instead.
"""

_base_ = ['../_base_/models/swav_resnet18.py', '../_base_/default_runtime.py']

model = dict(
    backbone=dict(stem_channels=32, base_channels=32),
    neck=dict(in_channels=256, hid_channels=256, out_channels=64),
    # 64 images alone would fill 64 prototypes with one each; the queue lends
    # four more batches.
    head=dict(num_prototypes=64, queue_length=256, epsilon=0.03),
)

train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='KeyedSampler', shuffle=True),
    collate_fn=dict(type='collate_views'),
    dataset=dict(
        type='ImageFolder',
        data_root='data/images',
        pipeline=[
            dict(type='LoadImage'),
            dict(
                type='MultiCrop',
                num_views=[2, 2],
                sizes=[64, 32],
                crop_ratio_ranges=[(0.3, 1.0), (0.1, 0.3)],
                aspect_ratio_range=(3 / 4, 4 / 3),
                flip_prob=0.5,
                brightness=0.4,
                contrast=0.4,
                saturation=0.4,
                hue=0.1,
                jitter_prob=0.8,
                grayscale_prob=0.1,
                blur_prob=0.0,
            ),
            dict(type='PackViews'),
        ],
    ),
)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=1e-4),
)

# No `end`: mmengine takes max_epochs.
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.0,
        begin=0,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=20)

auto_scale_lr = dict(enable=False, base_batch_size=64)

default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=20),
    swav=dict(freeze_prototypes_iters=30, queue_begin_epoch=1),
)
