"""SwAV, ResNet-18, 800 epochs of Imagenette at batch 256 on one GPU.

Our recipe, not measured here. It takes from lightly's Imagenette benchmark
2x128 + 6x64 px, batch 256, 800 epochs, Adam 0.001 with weight decay 1e-6 and
cosine to 0. Small datasets collapse to ln K easily, so unlike lightly's (3000
prototypes, epsilon 0.05, never frozen): K = 100, ten times the classes
(facebookresearch/swav#64) and less than the batch, which then needs no queue;
epsilon 0.03; prototypes frozen for 5 epochs.

Data: data/imagenette2-160/{train,val}/<class>/*.JPEG, 9,469 + 3,925 images,
10 classes: `torchvision.datasets.Imagenette(root, size='160px')` or
github.com/fastai/imagenette.

Command:
    python tools/train.py configs/selfsup/swav/\
swav_resnet18_1xb256-mcrop-2-6-coslr-800e_imagenette-128-64.py --amp

Bar: kNN top-1 90.2, lightly (script: k 200, T .1, its docs: k 20; best epoch
on the validation set), 89.0 with a queue.
Time: 283 minutes on one A6000, 6.4 GB (lightly).
"""

_base_ = [
    '../_base_/models/swav_resnet18.py',
    '../_base_/datasets/imagenette_mcrop-2-6.py',
    '../_base_/schedules/adam_coslr_bs256.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(num_prototypes=100, queue_length=0, epsilon=0.03))

train_dataloader = dict(batch_size=256)

train_cfg = dict(max_epochs=800)

# 36 iterations an epoch: log once an epoch, save every 50.
default_hooks = dict(
    logger=dict(interval=36),
    checkpoint=dict(interval=50),
    swav=dict(freeze_prototypes_iters=180),
)
