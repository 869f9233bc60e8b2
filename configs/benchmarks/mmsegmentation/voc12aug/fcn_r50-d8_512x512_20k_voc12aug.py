"""mmselfsup 0.x' name of fcn_r50-d8_4xb4-20k_voc12aug-512x512.py."""

_base_ = 'fcn_r50-d8_4xb4-20k_voc12aug-512x512.py'
