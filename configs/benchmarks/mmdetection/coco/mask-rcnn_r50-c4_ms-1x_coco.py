"""Mask R-CNN R50-C4 on COCO, 12 epochs, all of the network trained.

Reproduces mmselfsup's config of this name: SyncBN, Res5 and one more norm in
the heads, short side of 640 to 800 px. mmselfsup publishes no number for it;
not measured here.

Command:
    tools/benchmarks/mmdetection/dist_train_c4.sh configs/benchmarks/\
mmdetection/coco/mask-rcnn_r50-c4_ms-1x_coco.py CHECKPOINT 8

Data: data/coco/{annotations,train2017,val2017}.

Differences: the std of red is 58.14, as in pretraining; mmselfsup has 58.395
here. The warm-up of 500 iterations is mmselfsup 1.0's; 0.x, which measured the
published numbers, used 1,000.
"""

_base_ = [
    '../_base_/mask-rcnn_r50-c4.py',
    '../_base_/coco_ms.py',
    '../_base_/sgd_bs16.py',
    '../_base_/default_runtime.py',
]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=12, val_interval=1)

param_scheduler = [
    dict(
        type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500
    ),
    dict(
        type='MultiStepLR',
        by_epoch=True,
        begin=0,
        end=12,
        milestones=[8, 11],
        gamma=0.1,
    ),
]
