"""mmselfsup 0.x' name of fcn_r50-d8_4xb2-40k_cityscapes-769x769.py."""

_base_ = 'fcn_r50-d8_4xb2-40k_cityscapes-769x769.py'
