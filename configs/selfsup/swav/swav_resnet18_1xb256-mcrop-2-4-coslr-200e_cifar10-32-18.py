"""SwAV, ResNet-18 with the CIFAR stem, 200 epochs of CIFAR-10 on one GPU.

Our recipe, not measured here. Views as solo-learn's multi-crop CIFAR file has
them (2x32 px of 20-100 % and small ones, 18 px of 8-50 %, no blur), but 4
instead of 6 small ones; Adam and its rate as lightly's small benchmarks.

Small easy sets collapse to ln K (facebookresearch/swav#23, on CIFAR-10), so:
K = 100, ten times the classes (swav#64) and less than the batch, which then
needs no queue; epsilon 0.03; prototypes frozen for 2 epochs; softer colors.

Data: data/cifar10/cifar-10-batches-py, where
`torchvision.datasets.CIFAR10('data/cifar10', download=True)` puts it. Nothing
is downloaded in training.

Command:
    python tools/train.py configs/selfsup/swav/\
swav_resnet18_1xb256-mcrop-2-4-coslr-200e_cifar10-32-18.py --amp

Bars, all ResNet-18 without small views: kNN (k 200, T .1, best epoch on the
test set) 81.2 at batch 128 and 84.2 at batch 512 after 200 epochs, 88.4 after
800 (lightly); linear 89.17 after 1000 epochs (solo-learn).
Time: lightly's 200 epochs take 88.7 minutes on one A6000, with 2 views of 32.
"""

_base_ = [
    '../_base_/models/swav_resnet18.py',
    '../_base_/schedules/adam_coslr_bs256.py',
    '../_base_/default_runtime.py',
]

model = dict(
    data_preprocessor=dict(
        mean=[125.307, 122.961, 113.8575], std=[51.5865, 50.847, 51.255]
    ),
    backbone=dict(type='ResNet_CIFAR'),
    head=dict(num_prototypes=100, queue_length=0, epsilon=0.03),
)

train_dataloader = dict(
    batch_size=256,
    num_workers=8,
    prefetch_factor=2,  # batches that each worker has ready
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='KeyedSampler', shuffle=True),
    collate_fn=dict(type='collate_views'),
    dataset=dict(
        type='CIFAR10',  # mmpretrain's, cut in batches
        data_root='data/cifar10',
        split='train',
        download=False,
        pipeline=[
            dict(
                type='MultiCrop',
                num_views=[2, 4],
                sizes=[32, 18],
                crop_ratio_ranges=[(0.2, 1.0), (0.08, 0.5)],
                aspect_ratio_range=(3 / 4, 4 / 3),
                flip_prob=0.5,
                brightness=0.6,
                contrast=0.6,
                saturation=0.6,
                hue=0.2,
                jitter_prob=0.8,
                grayscale_prob=0.2,
                blur_prob=0.0,
            ),
            dict(type='PackViews'),
        ],
    ),
)

train_cfg = dict(max_epochs=200)

default_hooks = dict(swav=dict(freeze_prototypes_iters=390))
