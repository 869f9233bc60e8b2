"""Upstream's schedule for batch 4096: 0.3 to 4.8 in 10 epochs, to 0.0048."""

from mmengine.optim import CosineAnnealingLR, LinearLR, OptimWrapper
from mmengine.runner import EpochBasedTrainLoop

from swav_plugin.engine import LARS

optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(
        type=LARS,
        lr=4.8,
        momentum=0.9,
        # On every parameter, BN and biases too, as upstream.
        weight_decay=1e-6,
        trust_coefficient=1e-3,
        # False: the rule of apex LARC(clip=False) around SGD, with the
        # learning rate outside the momentum buffer.
        clip=False,
        eps=1e-8,
    ),
)

# 4.8 occurs twice, last of the warm-up and first of the cosine, as upstream.
# No `end` for the cosine: mmengine takes max_epochs.
param_scheduler = [
    dict(
        type=LinearLR,
        start_factor=0.3 / 4.8,
        begin=0,
        end=10,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type=CosineAnnealingLR,
        eta_min_ratio=1e-3,
        begin=10,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(type=EpochBasedTrainLoop, max_epochs=100)

# --cfg-options auto_scale_lr.enable=True scales lr by the batch you run.
auto_scale_lr = dict(enable=False, base_batch_size=4096)
