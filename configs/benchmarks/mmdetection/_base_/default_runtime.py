"""Settings of all detection benchmarks: scope, seed, checkpoints, loops."""

_base_ = 'mmdet::_base_/default_runtime.py'

# Registers our classes in commands of others, such as mmdet's own.
custom_imports = dict(
    imports=[
        'swav_plugin.engine',
        'swav_plugin.models',
        'swav_plugin.evaluation.coco_metric',
    ],
    allow_failed_imports=False,
)

val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

default_hooks = dict(
    checkpoint=dict(
        type='swav_plugin.CheckpointHook',
        max_keep_ckpts=3,
        # A checkpoint cut short by a crash never has the final name.
        backend_args=dict(backend='atomic'),
    ),
    # Never train from a random backbone by mistake: see --pretrained.
    pretrained=dict(type='swav_plugin.PretrainedHook', checkpoint=None),
    results=dict(type='swav_plugin.ResultsHook'),
)

randomness = dict(seed=0, deterministic=False)
