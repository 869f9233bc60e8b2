"""SwAV, ResNet-50, 100 epochs of ImageNet, PASSL's recipe.

Reproduces configs/swav/swav_r50_100ep.yaml of PASSL 1.1.0: 128 images a GPU,
lr 0.3 to 4.8 in 3,120 iterations, then cosine to 0.0048, 31,200 iterations, no
queue, prototypes frozen for 313 iterations. 312 iterations an epoch mean batch
4096 and so 32 GPUs, although its page says 8.

Command:
    GPUS=32 tools/slurm_train.sh PARTITION JOB configs/selfsup/swav/\
swav_resnet50_32xb128-mcrop-2-6-coslr-100e_in1k-224-96.py WORK_DIR --amp

Deliberate differences: std .228 where PASSL has .229; LARS is upstream's
instead of Paddle's; prototypes freeze by dropping their gradient, where PASSL
zeroes it and so still decays them; mixed precision if --amp is given, PASSL
trained in fp32.

Published top-1 on ImageNet, linear (not measured here): 72.4 PASSL.
No time published.
"""

_base_ = './swav_resnet50_64xb64-mcrop-2-6-coslr-100e_in1k-224-96.py'

train_dataloader = dict(batch_size=128)

train_cfg = dict(max_epochs=100)
