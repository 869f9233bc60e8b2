"""ImageNet, linear on AvgPool: SwAV's own protocol, 100 epochs.

Reproduces upstream's eval_linear and AvgPool in mmselfsup's benchmarks: the
2,048 averages of the last feature map, without batch norm; SGD, lr 0.3, weight
decay 1e-6, cosine to 0, stepped once an epoch; batch 256.

Published top-1 (not measured here): 72.7 % for 200 epochs at batch 256 and
75.3 % for 800 at batch 4096 (facebookresearch/swav); 70.47 % for
swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96, 70.5 % for a later
checkpoint of it (mmselfsup).

Command:
    tools/dist_train.sh configs/benchmarks/classification/imagenet/\
resnet50_linear-8xb32-coslr-100e_in1k.py 8 --pretrained CHECKPOINT

Several rates in one run, 'best' chosen on the validation set:
    --cfg-options "model.head.learning_rates=[0.1, 0.3, 1.0]"
Upstream's --use_bn: model.head.batch_norm=True.

Differences: none from upstream that we know of. mmselfsup uses 0.229 as the
std of red.
Time: 100 epochs of forward passes.
"""

_base_ = [
    '../../_base_/linear_resnet50.py',
    '../../_base_/imagenet_224.py',
    '../../_base_/train_runtime.py',
]

model = dict(
    backbone=dict(out_indices=(4,)),
    features=['avgpool'],
    head=dict(num_classes=1000, learning_rates=[0.3], batch_norm=False),
)

train_dataloader = dict(batch_size=32)  # per GPU

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ProbeOptimConstructor',
    optimizer=dict(
        type='SGD', momentum=0.9, nesterov=False, weight_decay=1e-6
    ),
)
# No `end`: mmengine takes max_epochs.
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min=0.0, begin=0, by_epoch=True)
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100, val_interval=10)

# --cfg-options auto_scale_lr.enable=True scales lr by the batch you run.
auto_scale_lr = dict(enable=False, base_batch_size=256)
