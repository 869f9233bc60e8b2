"""Mask R-CNN R50-FPN on COCO, 12 epochs, all of the network trained.

Reproduces mmselfsup: SyncBN in backbone, pyramid and heads, short side of 640
to 800 px.

Published (mmselfsup; not measured here): box AP / AP50 / AP75 40.2 / 60.5 /
43.9 and mask AP 36.3 / 57.5 / 38.8 for
swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96.

Command:
    tools/benchmarks/mmdetection/dist_train_fpn.sh configs/benchmarks/\
mmdetection/coco/mask-rcnn_r50_fpn_ms-1x_coco.py CHECKPOINT 8

Data: data/coco/{annotations,train2017,val2017}.

Differences: the std of red is 58.14, as in pretraining; mmselfsup has 58.395
here. The warm-up of 500 iterations is mmselfsup 1.0's; 0.x, which measured the
published numbers, used 1,000.
"""

_base_ = [
    '../_base_/mask-rcnn_r50_fpn.py',
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
