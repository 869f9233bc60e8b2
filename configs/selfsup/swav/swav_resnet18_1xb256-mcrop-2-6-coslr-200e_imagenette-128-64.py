"""SwAV, ResNet-18, 200 epochs of Imagenette at batch 256 on one GPU.

lightly's Imagenette benchmark, 200 epochs; the 800-epoch recipe otherwise. Not
measured here.

Data: data/imagenette2-160/{train,val}/<class>/*.JPEG, 9,469 + 3,925 images,
10 classes: `torchvision.datasets.Imagenette(root, size='160px')` or
github.com/fastai/imagenette.

Command:
    python tools/train.py configs/selfsup/swav/\
swav_resnet18_1xb256-mcrop-2-6-coslr-200e_imagenette-128-64.py --amp

Published: kNN top-1 86.1 (lightly; k 200, T .1, best epoch on the validation
set), 82.7 with a queue.
Time: 73.3 minutes on one A6000, 6.4 GB (lightly).
"""

_base_ = './swav_resnet18_1xb256-mcrop-2-6-coslr-800e_imagenette-128-64.py'

train_cfg = dict(max_epochs=200)
