"""Mask R-CNN on the output of stage 4; stage 5 (Res5) is part of the heads.

As in MoCo's protocol, whose detectron2 configs have one norm after Res5.
"""

_base_ = 'mmdet::_base_/models/mask-rcnn_r50-caffe-c4.py'

norm_cfg = dict(type='SyncBN', requires_grad=True)

model = dict(
    # Those of the pretraining: .228 for red in SwAV's, .229 in most others.
    # mmdet's base has those of a Caffe network: BGR and 1.
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.14, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        frozen_stages=-1,
        norm_cfg=norm_cfg,
        norm_eval=False,
        style='pytorch',
        init_cfg=None,
    ),  # see --pretrained
    roi_head=dict(
        shared_head=dict(
            _delete_=True,
            type='swav_plugin.ResLayerExtraNorm',
            depth=50,
            norm_cfg=norm_cfg,
        )
    ),
)
