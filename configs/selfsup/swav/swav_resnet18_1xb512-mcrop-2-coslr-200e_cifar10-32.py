"""SwAV, ResNet-18 with the CIFAR stem, 200 epochs of CIFAR-10 on one GPU.

lightly's CIFAR-10 benchmark: 2 views of 32 px, half-strength colors, no blur,
K = 512 without a queue, epsilon 0.05, prototypes never frozen, neck of 512
hidden units, Adam with a rate of 0.001 for each 128 images, weight decay 1e-6
and cosine to 0, batch 512; images are normalized with ImageNet's mean and
standard deviation, there too. Not measured here.

Data: data/cifar10/cifar-10-batches-py, where
`torchvision.datasets.CIFAR10('data/cifar10', download=True)` puts it. Nothing
is downloaded in training.

Command:
    python tools/train.py configs/selfsup/swav/\
swav_resnet18_1xb512-mcrop-2-coslr-200e_cifar10-32.py --amp

Published: kNN top-1 84.2 (lightly; k 200, T .1, best epoch on the test set);
81.2 at batch 128. It is measured every 10 epochs here; val_cfg=None turns that
off.
Time: 88.7 minutes on one A6000 (lightly).

Differences: rates change every iteration, not every epoch.
"""

_base_ = [
    '../_base_/models/swav_resnet18.py',
    '../_base_/datasets/cifar10_mcrop-2.py',
    '../_base_/schedules/adam_coslr_bs256.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(type='ResNet_CIFAR'),
    neck=dict(hid_channels=512),
    head=dict(num_prototypes=512),
)

optim_wrapper = dict(optimizer=dict(lr=4e-3))

train_cfg = dict(max_epochs=200, val_interval=10)

auto_scale_lr = dict(base_batch_size=512)

# 97 iterations an epoch.
default_hooks = dict(logger=dict(interval=97), checkpoint=dict(interval=50))
