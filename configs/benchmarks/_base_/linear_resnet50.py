"""Linear classifiers on a frozen ResNet-50, and how they are measured.

No sync_bn: the frozen norms have no batch statistics, and those of the head
are over all GPUs by themselves.
"""

model = dict(
    type='LinearProbe',
    # Those of the pretraining: .228 for red in SwAV's, .229 in most others.
    data_preprocessor=dict(
        type='MultiViewPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.14, 57.12, 57.375],
    ),
    backbone=dict(
        type='ResNetWithStem',
        depth=50,
        out_indices=(0, 1, 2, 3, 4),
        norm_cfg=dict(type='BN'),
    ),
    features=['feature1', 'feature2', 'feature3', 'feature4', 'feature5'],
    windows='mmselfsup',  # for images of 224 px; 'adaptive' for others
    head=dict(
        type='MultiLinearHead',
        num_classes=1000,
        # Several give a classifier each, all in one run.
        learning_rates=[0.01],
        batch_norm=True,
    ),
)

val_evaluator = dict(type='TopKAccuracy')
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
