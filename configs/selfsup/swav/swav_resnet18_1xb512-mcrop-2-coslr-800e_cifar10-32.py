"""SwAV, ResNet-18 with the CIFAR stem, 800 epochs of CIFAR-10 on one GPU.

lightly's CIFAR-10 benchmark, 800 epochs; the 200-epoch recipe otherwise. Not
measured here.

Data: data/cifar10/cifar-10-batches-py, where
`torchvision.datasets.CIFAR10('data/cifar10', download=True)` puts it.

Command:
    python tools/train.py configs/selfsup/swav/\
swav_resnet18_1xb512-mcrop-2-coslr-800e_cifar10-32.py --amp

Published: kNN top-1 88.4 (lightly; k 200, T .1, best epoch on the test set).
Time: 330 minutes on one A6000 (lightly).

Differences: rates change every iteration, not every epoch.
"""

_base_ = './swav_resnet18_1xb512-mcrop-2-coslr-200e_cifar10-32.py'

train_cfg = dict(max_epochs=800)
