"""ImageNet with 1 % of the labels: all weights trained, mmselfsup's grid.

Reproduces mmselfsup's nine recipes, backbone at lr 0.1, 0.01 or 0.001 and
classifier at 1, 10 or 100 times that: this is lr 0.1 and 1. SGD, x 0.2 after
12 and 16 of 20 epochs, weight decay 5e-4, SyncBN; batch 256 on 4 GPUs. Nobody
has published numbers of it for SwAV; not measured here.

Command:
    tools/dist_train.sh configs/benchmarks/classification/imagenet/\
imagenet_1percent/resnet50_head1_4xb64-steplr1e-1-20e_in1k-1pct.py \
4 --pretrained CHECKPOINT

The other points, such as mmselfsup's
resnet50_head10_4xb64-steplr1e-2-20e_in1k-1pct:
    --work-dir WORK_DIR --cfg-options optim_wrapper.optimizer.lr=0.01 \
optim_wrapper.paramwise_cfg.custom_keys.head.lr_mult=10

Data: data/imagenet/meta/train_1percent.txt, lines "path label", paths
relative to data/imagenet/train.

Differences: one file instead of nine.
Time: 20 epochs of 12,811 images, and 4 validations of 50,000.
"""

_base_ = [
    '../../../_base_/finetune_resnet50.py',
    '../../../_base_/imagenet_224.py',
    '../../../_base_/train_runtime.py',
]

train_dataloader = dict(
    batch_size=64,  # per GPU
    dataset=dict(
        data_root='data/imagenet/train',
        # Relative to data_root.
        ann_file='../meta/train_1percent.txt',
    ),
)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4),
    # The head learns at lr x lr_mult.
    paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=1))),
)
param_scheduler = [
    dict(type='MultiStepLR', milestones=[12, 16], gamma=0.2, by_epoch=True)
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=20, val_interval=5)

# --cfg-options auto_scale_lr.enable=True scales lr by the batch you run.
auto_scale_lr = dict(enable=False, base_batch_size=256)
