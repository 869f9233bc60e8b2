"""mmselfsup 0.x' name of mask-rcnn_r50-c4_ms-1x_coco.py."""

_base_ = 'mask-rcnn_r50-c4_ms-1x_coco.py'
