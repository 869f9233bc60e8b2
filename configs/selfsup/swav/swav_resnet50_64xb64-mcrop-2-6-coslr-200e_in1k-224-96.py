"""SwAV, ResNet-50, 200 epochs of ImageNet at batch 4096 on 64 GPUs.

Reproduces upstream's swav_200ep_pretrain: 8 nodes x 8 GPUs x 64 images, lr 0.3
to 4.8 in 10 epochs, then cosine to 0.0048, no queue, prototypes frozen for 313
iterations (of 312 an epoch). SyncBN groups: see the 100-epoch recipe.

Command:
    GPUS=64 tools/slurm_train.sh PARTITION JOB configs/selfsup/swav/\
swav_resnet50_64xb64-mcrop-2-6-coslr-200e_in1k-224-96.py WORK_DIR --amp

Published top-1 on ImageNet, linear (not measured here): 73.9
facebookresearch/swav; 73.85 VISSL.
Time: 3 min 40 s an epoch on 64 V100 (fp16), 12.2 hours in all.
"""

_base_ = './swav_resnet50_64xb64-mcrop-2-6-coslr-100e_in1k-224-96.py'

train_cfg = dict(max_epochs=200)
