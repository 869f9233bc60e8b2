"""SwAV with ResNet-50, as upstream trained it (arXiv:2006.09882)."""

from mmpretrain.models import ResNet

from swav_plugin.models import MultiViewPreprocessor, SwAV, SwAVHead, SwAVNeck

model = dict(
    type=SwAV,
    # Tensor cores read this layout. It acts on GPUs only: on a CPU batch norm
    # sums with 100 times the rounding error in it.
    channels_last=True,
    data_preprocessor=dict(
        type=MultiViewPreprocessor,
        mean=[123.675, 116.28, 103.53],
        # 58.14 = .228 * 255 as upstream and its released weights have it;
        # mmselfsup and torchvision write .229.
        std=[58.14, 57.12, 57.375],
    ),
    backbone=dict(
        type=ResNet,
        depth=50,
        norm_cfg=dict(type='BN'),  # SyncBN on several GPUs: see sync_bn
        # As upstream. mmselfsup sets it: the last norm of each block starts
        # at 0, and LARS takes a step from 0 unscaled.
        zero_init_residual=False,
    ),
    neck=dict(
        type=SwAVNeck,
        in_channels=2048,
        hid_channels=2048,
        out_channels=128,
        norm_cfg=dict(type='BN1d'),
    ),
    head=dict(
        type=SwAVHead,
        num_prototypes=3000,
        queue_length=3840,  # embeddings over all GPUs, per assigned view
        epsilon=0.05,
        num_iters=3,
        temperature=0.1,
        hard_assignment=False,
        num_assign_views=2,
    ),
)
