"""SwAV, ResNet-18, 800 epochs of Imagenette at batch 256 on one GPU.

lightly's Imagenette benchmark: 2x128 + 6x64 px, half-strength colors, K = 3000
without a queue, epsilon 0.05, prototypes never frozen, Adam 0.001 with weight
decay 1e-6 and cosine to 0, batch 256. More prototypes than the 512 embeddings
of a batch: a warning says so. Images are decoded once and stay in memory,
about 1 GB; train_dataloader.dataset.in_memory=False turns that off. Not
measured here.

Data: data/imagenette2-160/{train,val}/<class>/*.JPEG, 9,469 + 3,925 images,
10 classes: `torchvision.datasets.Imagenette(root, size='160px')` or
github.com/fastai/imagenette.

Command:
    python tools/train.py configs/selfsup/swav/\
swav_resnet18_1xb256-mcrop-2-6-coslr-800e_imagenette-128-64.py --amp

Published: kNN top-1 90.2 (lightly's script: k 200, T .1; its docs: k 20; best
epoch on the validation set); 89.0 with a queue.
It is measured every 10 epochs here; val_cfg=None turns that off.
Time: 283 minutes on one A6000, 6.4 GB (lightly).

Differences: rates change every iteration, not every epoch.
"""

_base_ = [
    '../_base_/models/swav_resnet18.py',
    '../_base_/datasets/imagenette_mcrop-2-6.py',
    '../_base_/datasets/imagenette_knn.py',
    '../_base_/schedules/adam_coslr_bs256.py',
    '../_base_/default_runtime.py',
]

train_dataloader = dict(batch_size=256, dataset=dict(in_memory=True))

train_cfg = dict(max_epochs=800, val_interval=10)

# 36 iterations an epoch: log once an epoch, save every 50.
default_hooks = dict(
    logger=dict(interval=36),
    checkpoint=dict(interval=50),
)
