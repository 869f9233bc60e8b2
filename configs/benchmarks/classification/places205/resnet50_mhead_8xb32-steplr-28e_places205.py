"""Places205, linear: one classifier on each of Feature1 to Feature5, one run.

Reproduces mmselfsup 0.x: features averaged over windows as for the VOC07 SVMs,
batch norm without scale and shift, linear; short side resized to 256 px, a
center crop of 256, a random crop of 224; SGD with Nesterov, lr 0.01, divided
by 10 after 7, 14 and 21 of 28 epochs; batch 256.

Published top-1 (mmselfsup; not measured here): 23.33, 35.45, 43.13, 51.98 and
55.09 % for swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96.

Data: data/places205 with lists of lines "path label", meta/train.txt and
meta/val.txt, paths relative to data/places205.

Command:
    tools/dist_train.sh configs/benchmarks/classification/places205/\
resnet50_mhead_8xb32-steplr-28e_places205.py 8 --pretrained CHECKPOINT

Differences: mmselfsup 1.0 inherits lr 0.1 and 100 epochs here, squashes
images, and cannot run it.
Time: 28 epochs of forward passes over 2.4 million images.
"""

_base_ = [
    '../../_base_/linear_resnet50.py',
    '../../_base_/imagenet_224.py',
    '../../_base_/train_runtime.py',
]

model = dict(
    features=['feature1', 'feature2', 'feature3', 'feature4', 'feature5'],
    windows='mmselfsup',
    head=dict(num_classes=205, learning_rates=[0.01], batch_norm=True),
)

train_dataloader = dict(
    batch_size=32,  # per GPU
    dataset=dict(
        data_root='data/places205',
        ann_file='meta/train.txt',
        pipeline=[
            dict(type='LoadImage'),
            dict(type='ResizeEdge', scale=256, edge='short', backend='pillow'),
            dict(type='CenterCrop', crop_size=256),
            dict(type='RandomCrop', crop_size=224),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackViews'),
        ],
    ),
)
val_dataloader = dict(
    dataset=dict(data_root='data/places205', ann_file='meta/val.txt')
)
test_dataloader = val_dataloader

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ProbeOptimConstructor',
    optimizer=dict(type='SGD', momentum=0.9, nesterov=True, weight_decay=1e-4),
)
param_scheduler = [
    dict(type='MultiStepLR', milestones=[7, 14, 21], gamma=0.1, by_epoch=True)
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=28, val_interval=10)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=3))

# --cfg-options auto_scale_lr.enable=True scales lr by the batch you run.
auto_scale_lr = dict(enable=False, base_batch_size=256)
