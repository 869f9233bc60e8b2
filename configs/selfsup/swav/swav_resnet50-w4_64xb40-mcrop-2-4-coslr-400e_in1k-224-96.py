"""SwAV, ResNet-50 four times as wide, 400 epochs of ImageNet at batch 2560.

Reproduces upstream's swav_RN50w4_400ep_pretrain: 8 nodes x 8 GPUs x 40 images,
2x224 + 4x96 with scales from .08 on, hidden layer of 8192, lr 0.3 to 4.8 in 10
epochs, then cosine to 0.0048, queue of 2560 (one step) from the start,
prototypes frozen for 313 iterations (of 500 an epoch). 375 million parameters
in the backbone.

Command:
    GPUS=64 tools/slurm_train.sh PARTITION JOB configs/selfsup/swav/\
swav_resnet50-w4_64xb40-mcrop-2-4-coslr-400e_in1k-224-96.py WORK_DIR --amp

Deliberate difference: statistics of SyncBN over all ranks, upstream's over
groups of 8.

Published top-1 on ImageNet, linear (not measured here): 77.9
facebookresearch/swav; 77.03 VISSL (which states 2x224 + 6x96).
Hardware: 64 V100 with 32 GB; no time published (job limit 72 hours).
"""

_base_ = [
    '../_base_/models/swav_resnet50.py',
    '../_base_/datasets/imagenet_mcrop-2-4.py',
    '../_base_/schedules/lars_warmup_coslr_bs4096.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(stem_channels=256, base_channels=256),
    neck=dict(in_channels=8192, hid_channels=8192),
    head=dict(num_prototypes=3000, queue_length=2560),
)

train_dataloader = dict(
    batch_size=40,
    dataset=dict(
        pipeline=[
            dict(type='LoadImage'),
            dict(
                type='MultiCrop',
                num_views=[2, 4],
                sizes=[224, 96],
                crop_ratio_ranges=[(0.08, 1.0), (0.08, 0.14)],
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
            dict(type='PackViews'),
        ]
    ),
)

train_cfg = dict(max_epochs=400)

# Upstream's rate, not scaled down from batch 4096.
auto_scale_lr = dict(base_batch_size=2560)

default_hooks = dict(swav=dict(freeze_prototypes_iters=313))
