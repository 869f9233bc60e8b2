"""ImageNet kNN: votes of the nearest training images, no training.

Reproduces mmselfsup: k = 10, 20, 100, 200, T = 0.07, votes exp(cos / T) with
the cosine of the 2,048 average-pooled features; training images are resized
and cropped as the test images are.

Published top-1 (mmselfsup; not measured here): 60.5, 60.6, 59.0 and 57.6 % for
swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96.

Command:
    tools/dist_test.sh configs/benchmarks/classification/knn_imagenet.py \
CHECKPOINT 8

Another dataset: folders with one folder for each class, or lists (ann_file),
    --cfg-options test_dataloader.dataset.data_root=VAL \
test_cfg.bank_dataloader.dataset.data_root=TRAIN model.backbone.depth=18

Time: one forward pass over 1.33 million images, then minutes. Disk: 5.5 GB.
"""

_base_ = '../_base_/default_runtime.py'

model = dict(
    type='ImageClassifier',
    # Those of the pretraining: .228 for red in SwAV's, .229 in most others.
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.14, 57.12, 57.375],
        to_rgb=False,
    ),  # LoadImage gives RGB
    backbone=dict(type='ResNet', depth=50, norm_cfg=dict(type='BN')),
)

pipeline = [
    dict(type='LoadImage'),
    dict(type='ResizeEdge', scale=256, edge='short', backend='pillow'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackViews'),
]


def images(data_root: str) -> dict:
    """Dataloader of a folder with one folder for each class."""
    return dict(
        batch_size=256,  # per GPU
        num_workers=8,
        pin_memory=True,
        collate_fn=dict(type='default_collate'),
        dataset=dict(
            type='ImageFolder',
            data_root=data_root,
            ann_file='',
            test_mode=True,
            pipeline=pipeline,
        ),
    )


test_dataloader = images('data/imagenet/val')
test_evaluator = [dict(type='KNN', k=[10, 20, 100, 200], temperature=0.07)]
test_cfg = dict(
    type='FeatureEvalLoop',
    bank_dataloader=images('data/imagenet/train'),
    features=['avgpool'],
    dtype='float16',
    # Found again by any run with the same weights, images and transforms.
    cache_dir='work_dirs/features',
)
