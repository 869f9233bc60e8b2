"""SwAV, ResNet-18, 200 epochs of Imagenette at batch 256 on one GPU.

The 800-epoch recipe in a quarter of the time. Our recipe, not measured here;
nobody has published a number for it.

Data: data/imagenette2-160/{train,val}/<class>/*.JPEG, 9,469 + 3,925 images,
10 classes: `torchvision.datasets.Imagenette(root, size='160px')` or
github.com/fastai/imagenette.

Command:
    python tools/train.py configs/selfsup/swav/\
swav_resnet18_1xb256-mcrop-2-6-coslr-200e_imagenette-128-64.py --amp

Bar: kNN 90.2 after 800 epochs (lightly).
Time: about 70 minutes on one A6000, a quarter of lightly's.
"""

_base_ = './swav_resnet18_1xb256-mcrop-2-6-coslr-800e_imagenette-128-64.py'

train_cfg = dict(max_epochs=200)
