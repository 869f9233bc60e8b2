"""SwAV with multi-crop, ResNet-18 with the CIFAR stem, 200 epochs of CIFAR-10.

Ours, not measured here: lightly's recipe (see the 1xb512 one) at batch 256 and
its rate for that, with 4 small views besides. Multi-crop is what SwAV gains
most from on ImageNet, and nobody has published it for CIFAR-10 with kNN. Crops
are solo-learn's: 2x32 px of 20-100 %, small ones of 18 px and 8-50 %.

Data: data/cifar10/cifar-10-batches-py, where
`torchvision.datasets.CIFAR10('data/cifar10', download=True)` puts it. Nothing
is downloaded in training.

Command:
    python tools/train.py configs/selfsup/swav/\
swav_resnet18_1xb256-mcrop-2-4-coslr-200e_cifar10-32-18.py --amp

Bars, all without small views: kNN (k 200, T .1, best epoch on the test set)
81.2 at batch 128 and 84.2 at batch 512 after 200 epochs, 88.4 after 800
(lightly); linear 89.17 after 1000 epochs (solo-learn).
Time: lightly's 200 epochs take 88.7 minutes on one A6000, with 2 views of 32.
"""

_base_ = './swav_resnet18_1xb512-mcrop-2-coslr-200e_cifar10-32.py'

train_dataloader = dict(
    batch_size=256,
    dataset=dict(
        pipeline=[
            dict(
                type='MultiCrop',
                num_views=[2, 4],
                sizes=[32, 18],
                crop_ratio_ranges=[(0.2, 1.0), (0.08, 0.5)],
                aspect_ratio_range=(3 / 4, 4 / 3),
                flip_prob=0.5,
                brightness=0.4,
                contrast=0.4,
                saturation=0.4,
                hue=0.1,
                jitter_prob=0.8,
                grayscale_prob=0.2,
                blur_prob=0.0,
            ),
            dict(type='PackViews'),
        ],
    ),
)

optim_wrapper = dict(optimizer=dict(lr=2e-3))

auto_scale_lr = dict(base_batch_size=256)

# 195 iterations an epoch.
default_hooks = dict(logger=dict(interval=195))
