"""ImageNet, linear: one classifier on each of Feature1 to Feature5, one run.

Reproduces mmselfsup 0.x: features averaged over windows as for the VOC07 SVMs,
batch norm without scale and shift, linear; SGD with Nesterov, lr 0.01, divided
by 10 after 30 and 60 of 90 epochs; batch 256.

Published top-1 (mmselfsup; not measured here): 16.98, 34.96, 49.26, 65.98 and
70.74 % for swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96.

Command:
    tools/dist_train.sh configs/benchmarks/classification/imagenet/\
resnet50_mhead_linear-8xb32-steplr-90e_in1k.py 8 --pretrained CHECKPOINT

Several rates in one run, 'best' chosen on the validation set:
    --cfg-options "model.head.learning_rates=[0.003, 0.01, 0.03]"
Another dataset or network: train_dataloader.dataset.data_root=TRAIN
val_dataloader.dataset.data_root=VAL test_dataloader.dataset.data_root=VAL
model.head.num_classes=10 model.backbone.depth=18

Differences: mmselfsup 1.0 renamed this file, dropped Feature1, lowers the rate
after 60 and 80 epochs, and cannot run it. 0.x added PCA lighting in floats, we
add it in integers.
Time: 90 epochs of forward passes.
"""

_base_ = [
    '../../_base_/linear_resnet50.py',
    '../../_base_/imagenet_224.py',
    '../../_base_/train_runtime.py',
]

train_dataloader = dict(
    batch_size=32,  # per GPU
    dataset=dict(
        pipeline=[
            dict(type='LoadImage'),
            dict(
                type='RandomResizedCrop',
                size=224,
                crop_ratio_range=(0.08, 1.0),
                aspect_ratio_range=(3 / 4, 4 / 3),
            ),
            dict(type='RandomFlip', prob=0.5),
            dict(
                type='ColorJitter',
                brightness=0.4,
                contrast=0.4,
                saturation=0.4,
                hue=0.0,
            ),
            dict(type='Lighting', alphastd=0.1),
            dict(type='PackViews'),
        ]
    ),
)

model = dict(
    features=['feature1', 'feature2', 'feature3', 'feature4', 'feature5'],
    windows='mmselfsup',
    head=dict(num_classes=1000, learning_rates=[0.01], batch_norm=True),
)

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ProbeOptimConstructor',
    optimizer=dict(type='SGD', momentum=0.9, nesterov=True, weight_decay=1e-4),
)
param_scheduler = [
    dict(type='MultiStepLR', milestones=[30, 60, 90], gamma=0.1, by_epoch=True)
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=90, val_interval=10)

# --cfg-options auto_scale_lr.enable=True scales lr by the batch you run.
auto_scale_lr = dict(enable=False, base_batch_size=256)
