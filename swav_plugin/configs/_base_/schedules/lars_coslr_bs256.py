"""Upstream's schedule for batch 256: LARS, cosine from 0.6 to 0.0006."""

from mmengine.optim import CosineAnnealingLR, OptimWrapper
from mmengine.runner import EpochBasedTrainLoop

from swav_plugin.engine import LARS

optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(
        type=LARS,
        lr=0.6,
        momentum=0.9,
        # On every parameter, BN and biases too, as upstream.
        weight_decay=1e-6,
        trust_coefficient=1e-3,
        # False: the rule of apex LARC(clip=False) around SGD, with the
        # learning rate outside the momentum buffer. mmselfsup keeps it
        # inside, so a falling rate leaves old steps too large.
        clip=False,
        eps=1e-8,
    ),
)

# No `end`: mmengine takes max_epochs. The ratio makes the last rate follow
# `auto_scale_lr` as the first does.
param_scheduler = [
    dict(
        type=CosineAnnealingLR,
        eta_min_ratio=1e-3,
        begin=0,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]

train_cfg = dict(type=EpochBasedTrainLoop, max_epochs=200)

# --cfg-options auto_scale_lr.enable=True scales lr by the batch you run.
auto_scale_lr = dict(enable=False, base_batch_size=256)
