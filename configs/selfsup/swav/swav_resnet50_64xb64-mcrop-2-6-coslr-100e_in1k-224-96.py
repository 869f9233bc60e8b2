"""SwAV, ResNet-50, 100 epochs of ImageNet at batch 4096 on 64 GPUs.

Reproduces upstream's swav_100ep_pretrain: 8 nodes x 8 GPUs x 64 images, lr 0.3
to 4.8 in 10 epochs, then cosine to 0.0048, no queue, prototypes frozen for 313
iterations (of 312 an epoch).

Command:
    GPUS=64 tools/slurm_train.sh PARTITION JOB configs/selfsup/swav/\
swav_resnet50_64xb64-mcrop-2-6-coslr-100e_in1k-224-96.py WORK_DIR --amp

Deliberate difference: upstream's SyncBN (apex) shares statistics within groups
of 8 consecutive ranks (512 images); mmengine has no key for groups, so here
all 64 ranks share them.

Published top-1 on ImageNet, linear (not measured here): 72.1
facebookresearch/swav; 71.99 VISSL.
Time: 3 min 40 s an epoch on 64 V100 (fp16), 6.1 hours in all.
"""

_base_ = [
    '../_base_/models/swav_resnet50.py',
    '../_base_/datasets/imagenet_mcrop-2-6.py',
    '../_base_/schedules/lars_warmup_coslr_bs4096.py',
    '../_base_/default_runtime.py',
]

# 4096 images a step fill 3000 prototypes well enough without a queue.
model = dict(head=dict(num_prototypes=3000, queue_length=0))

train_dataloader = dict(batch_size=64)

train_cfg = dict(max_epochs=100)

default_hooks = dict(swav=dict(freeze_prototypes_iters=313))
