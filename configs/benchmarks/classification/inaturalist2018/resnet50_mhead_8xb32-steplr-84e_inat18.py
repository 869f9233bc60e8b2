"""iNaturalist2018, linear: a classifier on each of Feature1 to 5, one run.

Reproduces mmselfsup 0.x: features averaged over windows as for the VOC07 SVMs,
batch norm without scale and shift, linear; SGD with Nesterov, lr 0.01, divided
by 10 after 24, 48 and 72 of 84 epochs; batch 256.

Published top-1 (not measured here): none with this protocol. The SwAV paper
reports 48.6 % after 800 epochs at batch 4096 with its own protocol
(arXiv:2006.09882, table 2).

Data: data/inaturalist2018 with lists of lines "path label", meta/train.txt
and meta/val.txt, paths relative to data/inaturalist2018.

Command:
    tools/dist_train.sh configs/benchmarks/classification/inaturalist2018/\
resnet50_mhead_8xb32-steplr-84e_inat18.py 8 --pretrained CHECKPOINT

Differences: none; mmselfsup 1.0 dropped this recipe.
Time: 84 epochs of forward passes over 437,513 images.
"""

_base_ = [
    '../../_base_/linear_resnet50.py',
    '../../_base_/imagenet_224.py',
    '../../_base_/train_runtime.py',
]

model = dict(
    features=['feature1', 'feature2', 'feature3', 'feature4', 'feature5'],
    windows='mmselfsup',
    head=dict(num_classes=8142, learning_rates=[0.01], batch_norm=True),
)

train_dataloader = dict(
    batch_size=32,  # per GPU
    dataset=dict(data_root='data/inaturalist2018', ann_file='meta/train.txt'),
)
val_dataloader = dict(
    dataset=dict(data_root='data/inaturalist2018', ann_file='meta/val.txt')
)
test_dataloader = val_dataloader

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ProbeOptimConstructor',
    optimizer=dict(type='SGD', momentum=0.9, nesterov=True, weight_decay=1e-4),
)
param_scheduler = [
    dict(type='MultiStepLR', milestones=[24, 48, 72], gamma=0.1, by_epoch=True)
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=84, val_interval=10)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=3))

# --cfg-options auto_scale_lr.enable=True scales lr by the batch you run.
auto_scale_lr = dict(enable=False, base_batch_size=256)
