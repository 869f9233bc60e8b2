"""Faster R-CNN R50-FPN on COCO or boxes of one's own, 12 epochs.

The recipe of mask-rcnn_r50_fpn_ms-1x_coco.py without masks: all layers
trained, SyncBN in backbone, pyramid and heads, short side of 640 to 800 px.
For annotations in COCO's format that have boxes only. mmselfsup has no such
config; not measured here.

Command:
    tools/benchmarks/mmdetection/dist_train_fpn.sh configs/benchmarks/\
mmdetection/coco/faster-rcnn_r50_fpn_ms-1x_coco.py CHECKPOINT 8

Data: data/coco/{annotations,train2017,val2017}. With classes of your own, in
the order of the annotations, --cfg-options takes
    {train,val,test}_dataloader.dataset.metainfo.classes="['nut', 'bolt']"
    model.roi_head.bbox_head.num_classes=2
tools/check_dataset.py coco_boxes data/coco --any-size checks them, and
tools/benchmarks/run_suite.py (faster_rcnn_fpn_1x) sets all of this.

Differences: from mask-rcnn_r50_fpn_ms-1x_coco.py, the mask head alone.
"""

_base_ = [
    '../_base_/faster-rcnn_r50_fpn.py',
    '../_base_/coco_boxes_ms.py',
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
