"""ImageNet, linear on AvgPool: batch 4096 with LARS, 90 epochs.

Reproduces the protocol of SimSiam, which mmselfsup and mmpretrain name for
SwAV as well: LARS, lr 1.6, no weight decay, cosine to 0 epoch by epoch; batch
4096. mmpretrain's page lists 70.50 % top-1 here for
swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96, a number that came from
resnet50_linear-8xb32-coslr-100e_in1k (mmselfsup); so none is known of this
protocol, and it is not measured here.

Command:
    tools/dist_train.sh configs/benchmarks/classification/imagenet/\
resnet50_linear-8xb512-coslr-90e_in1k.py 8 --pretrained CHECKPOINT

Several rates in one run, 'best' chosen on the validation set:
    --cfg-options "model.head.learning_rates=[0.8, 1.6, 3.2]"

Differences: the rate stays outside LARS' momentum, as in SwAV's pretraining.
Time: forward passes of 90 epochs.
"""

_base_ = [
    '../../_base_/linear_resnet50.py',
    '../../_base_/imagenet_224.py',
    '../../_base_/train_runtime.py',
]

model = dict(
    backbone=dict(out_indices=(4,)),
    features=['avgpool'],
    head=dict(num_classes=1000, learning_rates=[1.6], batch_norm=False),
)

train_dataloader = dict(batch_size=512)  # per GPU

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='ProbeOptimConstructor',
    optimizer=dict(
        type='LARS',
        momentum=0.9,
        weight_decay=0.0,
        trust_coefficient=1e-3,
        clip=False,
        eps=1e-8,
    ),
)
# No `end`: mmengine takes max_epochs.
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min=0.0, begin=0, by_epoch=True)
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=90, val_interval=10)

# --cfg-options auto_scale_lr.enable=True scales lr by the batch you run.
auto_scale_lr = dict(enable=False, base_batch_size=4096)
