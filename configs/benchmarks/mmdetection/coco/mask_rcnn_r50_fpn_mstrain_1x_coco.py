"""mmselfsup 0.x' name of mask-rcnn_r50_fpn_ms-1x_coco.py."""

_base_ = 'mask-rcnn_r50_fpn_ms-1x_coco.py'
