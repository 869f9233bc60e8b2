"""SwAV, ResNet-50, 400 epochs of ImageNet at batch 4096, two large views.

Reproduces upstream's swav_400ep_2x224_pretrain: no small views, crops of 8 %
to 100 % of the image; else as its multi-crop runs: 8 nodes x 8 GPUs x 64
images, lr 0.3 to 4.8 in 10 epochs, then cosine to 0.0048, no queue, prototypes
frozen for 313 iterations (of 312 an epoch). SyncBN groups: see
swav_resnet50_64xb64-mcrop-2-6-coslr-100e_in1k-224-96.py.

Command:
    GPUS=64 tools/slurm_train.sh PARTITION JOB configs/selfsup/swav/\
swav_resnet50_64xb64-mcrop-2-coslr-400e_in1k-224.py WORK_DIR --amp

Published top-1 on ImageNet, linear (not measured here): 70.1
facebookresearch/swav; 69.53 VISSL. No time published.
"""

_base_ = [
    '../_base_/models/swav_resnet50.py',
    '../_base_/datasets/imagenet_mcrop-2.py',
    '../_base_/schedules/lars_warmup_coslr_bs4096.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(num_prototypes=3000, queue_length=0))

train_dataloader = dict(batch_size=64)

train_cfg = dict(max_epochs=400)

default_hooks = dict(swav=dict(freeze_prototypes_iters=313))
