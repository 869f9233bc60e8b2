"""SwAV, ResNet-50 twice as wide, 400 epochs of ImageNet at batch 4096.

Reproduces upstream's swav_RN50w2_400ep_pretrain: 16 nodes x 8 GPUs x 32
images, 2x224 + 4x96, hidden layer of 8192, lr 0.3 to 4.8 in 10 epochs, then
cosine to 0.0048, no queue, prototypes frozen for 313 iterations. 94 million
parameters in the backbone.

Command:
    GPUS=128 tools/slurm_train.sh PARTITION JOB configs/selfsup/swav/\
swav_resnet50-w2_128xb32-mcrop-2-4-coslr-400e_in1k-224-96.py WORK_DIR --amp

Deliberate difference: statistics of SyncBN over all ranks, upstream's over
groups of 8.

Published top-1 on ImageNet, linear (not measured here): 77.3
facebookresearch/swav; 77.01 VISSL (which states 2x224 + 6x96).
Hardware: 128 V100 with 32 GB; no time published (job limit 72 hours).
"""

_base_ = [
    '../_base_/models/swav_resnet50.py',
    '../_base_/datasets/imagenet_mcrop-2-4.py',
    '../_base_/schedules/lars_warmup_coslr_bs4096.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(stem_channels=128, base_channels=128),
    neck=dict(in_channels=4096, hid_channels=8192),
    head=dict(num_prototypes=3000, queue_length=0),
)

train_dataloader = dict(batch_size=32)

train_cfg = dict(max_epochs=400)

default_hooks = dict(swav=dict(freeze_prototypes_iters=313))
