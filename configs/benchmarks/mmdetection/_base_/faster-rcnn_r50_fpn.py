"""Faster R-CNN on a feature pyramid, normalized over all GPUs throughout."""

_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'

norm_cfg = dict(type='SyncBN', requires_grad=True)

model = dict(
    # Those of the pretraining: .228 for red in SwAV's, .229 in most others.
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.14, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        frozen_stages=-1, norm_cfg=norm_cfg, norm_eval=False, init_cfg=None
    ),  # see --pretrained
    neck=dict(norm_cfg=norm_cfg),
    roi_head=dict(
        bbox_head=dict(
            type='Shared4Conv1FCBBoxHead',
            conv_out_channels=256,
            norm_cfg=norm_cfg,
        )
    ),
)
