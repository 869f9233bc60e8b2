"""SwAV with multi-crop, ResNet-18 with the CIFAR stem, 1000 epochs, CIFAR-10.

solo-learn's cifar-multicrop/swav.yaml: 2x32 px of 20-100 % and 6x18 px of
8-50 %, colors .6/.6/.6/.2 (.8/.8/.8/.2 in small views), the second view and
small ones solarized in 20 and 10 %, K = 3000 with a queue of 3,840 from epoch
50, prototypes frozen for 2 epochs, epsilon 0.05, LARS 0.6 with eta .02 and
clipping, warm-up of 10 epochs from 3e-5 and cosine, batch 256. Not measured
here.

Data: data/cifar10/cifar-10-batches-py, where
`torchvision.datasets.CIFAR10('data/cifar10', download=True)` puts it. Nothing
is downloaded in training.

Command:
    python tools/train.py configs/selfsup/swav/\
swav_resnet18_1xb256-mcrop-2-6-coslr-1000e_cifar10-32-18.py --amp

Published: nothing for this recipe; 89.17 linear with 2 views of 32 px, blurred
and with stronger colors, else the same (solo-learn). kNN is measured every 50
epochs here; val_cfg=None turns that off.

Time: MultiCrop does not solarize, so MultiView cuts these views, with 237
images/s on a core of a CPU: on 8 cores loading alone takes 7 hours for 1000
epochs, whatever the GPU.

Differences: LARS adapts the rates of biases and norms, too, which solo-learn
leaves out; crops are resized with bilinear interpolation, there with bicubic;
the stem pads 1 px, there 2.
"""

_base_ = [
    '../_base_/models/swav_resnet18.py',
    '../_base_/datasets/cifar10_mcrop-2.py',
    '../_base_/schedules/lars_coslr_bs256.py',
    '../_base_/default_runtime.py',
]

model = dict(
    # CIFAR-10's, as solo-learn has them.
    data_preprocessor=dict(
        mean=[125.307, 122.961, 113.8575], std=[62.985, 62.0925, 66.708]
    ),
    backbone=dict(type='ResNet_CIFAR'),
    head=dict(queue_length=3840),
)


def view(
    size: int,
    crop_ratio_range: tuple,
    color: float,
    solarize_prob: float,
    blur_prob: float = 0.0,
) -> list:
    """Transforms of one kind of view."""
    return [
        dict(
            type='RandomResizedCrop',
            size=size,
            crop_ratio_range=crop_ratio_range,
        ),
        dict(type='RandomFlip', prob=0.5),
        dict(
            type='ColorJitter',
            brightness=color,
            contrast=color,
            saturation=color,
            hue=0.2,
            prob=0.8,
        ),
        dict(type='RandomGrayscale', prob=0.2),
        dict(type='GaussianBlur', sigma_range=(0.1, 2.0), prob=blur_prob),
        dict(type='Solarize', thr=128, prob=solarize_prob),
    ]


train_dataloader = dict(
    batch_size=256,
    dataset=dict(
        pipeline=[
            # MultiCrop does not solarize.
            dict(
                type='MultiView',
                num_views=[1, 1, 6],
                transforms=[
                    view(32, (0.2, 1.0), 0.6, 0.0),
                    view(32, (0.2, 1.0), 0.6, 0.2),
                    view(18, (0.08, 0.5), 0.8, 0.1, blur_prob=0.1),
                ],
            ),
            dict(type='PackViews'),
        ],
    ),
)

optim_wrapper = dict(
    optimizer=dict(lr=0.6, trust_coefficient=0.02, clip=True),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)

param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=5e-5,  # 3e-5 of 0.6
        begin=0,
        end=10,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=1e-3,
        begin=10,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(max_epochs=1000, val_interval=50)

# 195 iterations an epoch.
default_hooks = dict(
    logger=dict(interval=195),
    checkpoint=dict(interval=50),
    swav=dict(freeze_prototypes_iters=390, queue_begin_epoch=50),
)
