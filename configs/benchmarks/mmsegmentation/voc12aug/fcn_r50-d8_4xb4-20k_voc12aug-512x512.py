"""FCN-D8 R50 on VOC2012 with SBD's masks, 20,000 iterations, all trained.

Reproduces mmselfsup: SyncBN, 512x512 px crops of images scaled by 0.5 to 2,
21 classes, 10,582 training images.

Published mIoU (mmselfsup; not measured here): 63.73 for
swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96.

Command:
    tools/benchmarks/mmsegmentation/dist_train.sh configs/benchmarks/\
mmsegmentation/voc12aug/fcn_r50-d8_4xb4-20k_voc12aug-512x512.py CHECKPOINT 4

Data: data/VOCdevkit/VOC2012 with SegmentationClassAug, see
tools/dataset_converters/voc12aug.py.

Differences: the network is the plain ResNet-50 of mmselfsup 0.x, which
measured the published number, not the deep stem of its 1.0; the std of red is
58.14, as in pretraining.
"""

_base_ = [
    '../_base_/fcn_r50-d8.py',
    'mmseg::_base_/datasets/pascal_voc12_aug.py',
    'mmseg::_base_/schedules/schedule_20k.py',
    '../_base_/default_runtime.py',
]

crop_size = (512, 512)
data_preprocessor = dict(size=crop_size)
model = dict(
    data_preprocessor=data_preprocessor,
    decode_head=dict(num_classes=21),
    auxiliary_head=dict(num_classes=21),
)

train_dataloader = dict(batch_size=4, num_workers=4)  # per GPU
auto_scale_lr = dict(enable=False, base_batch_size=16)

train_cfg = dict(max_iters=20000, val_interval=2000)
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4)
)
param_scheduler = [
    dict(
        type='PolyLR',
        power=0.9,
        eta_min=1e-4,
        begin=0,
        end=20000,
        by_epoch=False,
    )
]

default_hooks = dict(
    checkpoint=dict(
        interval=2000,
        max_keep_ckpts=3,
        # A checkpoint cut short by a crash never has the final name.
        backend_args=dict(backend='atomic'),
    )
)
