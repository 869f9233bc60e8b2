"""ImageNet with 1 % of the labels: all weights trained, SwAV's recipe.

Reproduces upstream's eval_semisup for 1 %: the 12,811 images of SimCLR's
list; lr 0.02 for the backbone and 5 for the classifier, x 0.2 after 12 and
16 of 20 epochs; no weight decay; batch 256. After 800 epochs at batch 4096:
53.9 % top-1, 78.5 top-5 (arXiv:2006.09882, table 1); 55.0
(PASSL, 2023). Not measured here.

Command:
    tools/dist_train.sh configs/benchmarks/classification/imagenet/\
imagenet_1percent/resnet50_head250_8xb32-steplr2e-2-20e_in1k-1pct.py \
8 --pretrained CHECKPOINT

Data: data/imagenet/meta/train_1percent.txt, lines "path label", paths
relative to data/imagenet/train.

Differences: SyncBN, as in mmselfsup's grid.
Time: 20 epochs of 12,811 images, and 4 validations of 50,000.
"""

_base_ = [
    '../../../_base_/finetune_resnet50.py',
    '../../../_base_/imagenet_224.py',
    '../../../_base_/train_runtime.py',
]

train_dataloader = dict(
    batch_size=32,  # per GPU
    dataset=dict(
        data_root='data/imagenet/train',
        # Relative to data_root.
        ann_file='../meta/train_1percent.txt',
    ),
)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=0.0),
    # The head learns at lr x lr_mult.
    paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=250))),
)
param_scheduler = [
    dict(type='MultiStepLR', milestones=[12, 16], gamma=0.2, by_epoch=True)
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=20, val_interval=5)

# --cfg-options auto_scale_lr.enable=True scales lr by the batch you run.
auto_scale_lr = dict(enable=False, base_batch_size=256)
