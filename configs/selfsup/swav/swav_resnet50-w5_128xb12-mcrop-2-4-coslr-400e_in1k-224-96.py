"""SwAV, ResNet-50 five times as wide, 400 epochs of ImageNet at batch 1536.

Reproduces upstream's swav_RN50w5_400ep_pretrain: 16 nodes x 8 GPUs x 12
images, 2x224 + 4x96, hidden layer of 10240, lr 0.1875 to 4.8 in 10 epochs,
then cosine to 0, queue of 1536 (one step) from the start, prototypes frozen
for 313 iterations (of 834 an epoch). 586 million parameters in the backbone.
The released weights have no BN in the head (facebookresearch/swav#35), so
neither has this.

Command:
    GPUS=128 tools/slurm_train.sh PARTITION JOB configs/selfsup/swav/\
swav_resnet50-w5_128xb12-mcrop-2-4-coslr-400e_in1k-224-96.py WORK_DIR --amp

Deliberate difference: SyncBN's statistics over all ranks, upstream's over
groups of 8. In doubt: VISSL's table lists the same weights with 300 epochs at
batch 2560 and 2x224 + 6x96; this config follows upstream's script.

Published top-1 on ImageNet, linear (not measured here): 78.5
facebookresearch/swav and VISSL.
Hardware: 128 V100 with 32 GB; no time published (job limit 72 hours).
"""

_base_ = [
    '../_base_/models/swav_resnet50.py',
    '../_base_/datasets/imagenet_mcrop-2-4.py',
    '../_base_/schedules/lars_warmup_coslr_bs4096.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(stem_channels=320, base_channels=320),
    neck=dict(in_channels=10240, hid_channels=10240, norm_cfg=None),
    head=dict(num_prototypes=3000, queue_length=1536),
)

train_dataloader = dict(batch_size=12)

train_cfg = dict(max_epochs=400)

param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.1875 / 4.8,
        begin=0,
        end=10,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.0,
        begin=10,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]

# Upstream's rate, not scaled down from batch 4096.
auto_scale_lr = dict(base_batch_size=1536)

default_hooks = dict(swav=dict(freeze_prototypes_iters=313))
