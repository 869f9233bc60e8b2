"""CIFAR-10: all weights trained from a pretrained ResNet-50, 350 epochs.

Reproduces mmselfsup's recipe: the ImageNet stem, squares of 32 px out of
images padded by 4 px, flips; SGD, lr 0.1, divided by 10 after 150 and 250
epochs, weight decay 5e-4; batch 1024. Nobody has published its number for
SwAV; not measured here.

Data: data/cifar10/cifar-10-batches-py, where
`torchvision.datasets.CIFAR10('data/cifar10', download=True)` puts it.

Command:
    tools/dist_train.sh configs/benchmarks/classification/cifar10/\
resnet50_8xb128-steplr-350e_cifar10.py 8 --pretrained CHECKPOINT

Differences: mean and std are CIFAR-10's and colors stay RGB. mmselfsup 1.0
means that too, but in effect takes ImageNet's numbers and swaps red and blue.
Time: 350 epochs of 50,000 images of 32 px.
"""

_base_ = [
    '../../_base_/finetune_resnet50.py',
    '../../_base_/train_runtime.py',
]

model = dict(
    data_preprocessor=dict(
        mean=[125.307, 122.961, 113.8575],
        std=[51.5865, 50.847, 51.255],
        to_rgb=False,
    ),
    head=dict(num_classes=10),
)

train_dataloader = dict(
    batch_size=128,  # per GPU
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='KeyedSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CIFAR10',  # mmpretrain's: RGB arrays, no file to load
        data_root='data/cifar10',
        split='train',
        download=False,
        pipeline=[
            dict(type='RandomCrop', crop_size=32, padding=4),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackViews'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=128,  # per GPU
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    # Each image on one rank only: none is counted twice.
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CIFAR10',
        data_root='data/cifar10',
        split='test',
        test_mode=True,
        download=False,
        pipeline=[dict(type='PackViews')],
    ),
)
test_dataloader = val_dataloader

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4),
)
param_scheduler = [
    dict(type='MultiStepLR', milestones=[150, 250], gamma=0.1, by_epoch=True)
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=350, val_interval=10)
default_hooks = dict(checkpoint=dict(interval=50, max_keep_ckpts=3))

# --cfg-options auto_scale_lr.enable=True scales lr by the batch you run.
auto_scale_lr = dict(enable=False, base_batch_size=1024)
