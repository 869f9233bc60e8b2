"""FCN on a ResNet-50 whose last stages are dilated: maps of 1/8 of the image.

mmseg's base has ResNetV1c, whose stem of three convolutions no SwAV checkpoint
can fill. This is the plain ResNet with one convolution of 7x7.
"""

_base_ = 'mmseg::_base_/models/fcn_r50-d8.py'

norm_cfg = dict(type='SyncBN', requires_grad=True)

# Those of the pretraining: .228 for red in SwAV's, .229 in most others.
data_preprocessor = dict(
    mean=[123.675, 116.28, 103.53], std=[58.14, 57.12, 57.375], bgr_to_rgb=True
)

model = dict(
    data_preprocessor=data_preprocessor,
    pretrained=None,  # see --pretrained
    backbone=dict(
        type='ResNet',
        depth=50,
        out_indices=(0, 1, 2, 3),
        dilations=(1, 1, 2, 4),
        strides=(1, 2, 1, 1),
        contract_dilation=True,
        frozen_stages=-1,
        norm_cfg=norm_cfg,
        norm_eval=False,
    ),
)
