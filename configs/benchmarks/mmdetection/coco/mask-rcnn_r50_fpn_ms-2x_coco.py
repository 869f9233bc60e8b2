"""Mask R-CNN R50-FPN on COCO, 24 epochs, all of the network trained.

Reproduces mmselfsup's config of this name: SyncBN in backbone, pyramid and
heads, short side of 640 to 800 px. mmselfsup publishes no
number for it; not measured here.

Command:
    tools/benchmarks/mmdetection/dist_train_fpn.sh configs/benchmarks/\
mmdetection/coco/mask-rcnn_r50_fpn_ms-2x_coco.py CHECKPOINT 8

Data: data/coco/{annotations,train2017,val2017}.

Differences: the std of red is 58.14, as in pretraining; mmselfsup has 58.395
here.
"""

_base_ = [
    '../_base_/mask-rcnn_r50_fpn.py',
    '../_base_/coco_ms.py',
    '../_base_/sgd_bs16.py',
    '../_base_/default_runtime.py',
]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=24, val_interval=1)

param_scheduler = [
    dict(
        type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000
    ),
    dict(
        type='MultiStepLR',
        by_epoch=True,
        begin=0,
        end=24,
        milestones=[16, 22],
        gamma=0.1,
    ),
]
