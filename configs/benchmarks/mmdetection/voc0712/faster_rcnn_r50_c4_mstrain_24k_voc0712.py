"""mmselfsup 0.x' name of faster-rcnn_r50-c4_ms-24k_voc0712.py."""

_base_ = 'faster-rcnn_r50-c4_ms-24k_voc0712.py'
