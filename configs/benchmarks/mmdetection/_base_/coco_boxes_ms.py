"""COCO 2017 with boxes only; short side of 640 to 800 in training."""

_base_ = 'mmdet::_base_/datasets/coco_detection.py'

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='RandomChoiceResize',
        scales=[(1333, short) for short in range(640, 801, 32)],
        keep_ratio=True,
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
# Ours fill in what annotations of one's own lack, or refuse them.
train_dataloader = dict(
    batch_size=2,  # per GPU
    num_workers=2,
    dataset=dict(type='swav_plugin.CocoDataset', pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(type='swav_plugin.CocoDataset'))
test_dataloader = val_dataloader
val_evaluator = dict(type='swav_plugin.CocoMetric')
test_evaluator = val_evaluator
