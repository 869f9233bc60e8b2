"""FCN-D8 R50 on Cityscapes, 40,000 iterations, all of the network trained.

Reproduces mmselfsup's config: SyncBN, 769x769 px crops of images scaled by 0.5
to 2, 19 classes, tested in sliding windows. mmselfsup publishes no number for
it; not measured here.

Command:
    tools/benchmarks/mmsegmentation/dist_train.sh configs/benchmarks/\
mmsegmentation/cityscapes/fcn_r50-d8_4xb2-40k_cityscapes-769x769.py \
CHECKPOINT 4

Data: data/cityscapes/{leftImg8bit,gtFine} with *_labelTrainIds.png, see
tools/dataset_converters/cityscapes.py.

Differences: the network is the plain ResNet-50 of mmselfsup 0.x, not the deep
stem of its 1.0; the std of red is 58.14, as in pretraining.
"""

_base_ = [
    '../_base_/fcn_r50-d8.py',
    'mmseg::_base_/datasets/cityscapes_769x769.py',
    'mmseg::_base_/schedules/schedule_40k.py',
    '../_base_/default_runtime.py',
]

crop_size = (769, 769)
data_preprocessor = dict(size=crop_size)
model = dict(
    data_preprocessor=data_preprocessor,
    decode_head=dict(num_classes=19, align_corners=True),
    auxiliary_head=dict(num_classes=19, align_corners=True),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(513, 513)),
)

train_dataloader = dict(batch_size=2, num_workers=2)  # per GPU
auto_scale_lr = dict(enable=False, base_batch_size=8)

train_cfg = dict(max_iters=40000, val_interval=4000)
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4)
)
param_scheduler = [
    dict(
        type='PolyLR',
        power=0.9,
        eta_min=1e-4,
        begin=0,
        end=40000,
        by_epoch=False,
    )
]

default_hooks = dict(
    checkpoint=dict(
        interval=4000,
        max_keep_ckpts=3,
        # A checkpoint cut short by a crash never has the final name.
        backend_args=dict(backend='atomic'),
    )
)
