"""A whole ResNet-50 classifier to train on, and how it is measured."""

model = dict(
    type='ImageClassifier',
    # Those of the pretraining: .228 for red in SwAV's, .229 in most others.
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.14, 57.12, 57.375],
        to_rgb=False,
    ),  # LoadImage gives RGB
    backbone=dict(
        type='ResNet',
        depth=50,
        frozen_stages=-1,  # none
        norm_eval=False,
        norm_cfg=dict(type='BN'),
    ),  # SyncBN on several GPUs: see sync_bn
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=2048,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
    ),
)

sync_bn = 'torch'

val_evaluator = dict(type='TopKAccuracy')
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
