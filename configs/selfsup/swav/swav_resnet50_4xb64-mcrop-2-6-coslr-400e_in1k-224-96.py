"""SwAV, ResNet-50, 400 epochs of ImageNet at batch 256 on 4 GPUs.

Reproduces upstream's swav_400ep_bs256_pretrain: 4 GPUs x 64 images, lr 0.6 to
0.0006 without warm-up, queue of 3840 from epoch 15, prototypes frozen for 5005
iterations (of 5,004 an epoch), SyncBN over all 4 GPUs.

Command:
    tools/dist_train.sh configs/selfsup/swav/\
swav_resnet50_4xb64-mcrop-2-6-coslr-400e_in1k-224-96.py 4 --amp

Published top-1 on ImageNet, linear (not measured here): 74.3
facebookresearch/swav; 74.3 VISSL.
Time: 52 min 10 s an epoch on upstream's 4 GPUs (fp16), 348 hours in all.
"""

_base_ = './swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96.py'

train_dataloader = dict(batch_size=64)

train_cfg = dict(max_epochs=400)
