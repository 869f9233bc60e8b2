"""Settings of benchmarks that train, on top of default_runtime.py."""

_base_ = './default_runtime.py'

default_hooks = dict(
    # mmengine's own reads the loss from the device in every iteration; this
    # one when a line is logged.
    runtime_info=dict(type='DeferredRuntimeInfoHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # The 'atomic' backend never leaves half a file behind.
    checkpoint=dict(
        type='CheckpointHook',
        interval=10,
        max_keep_ckpts=3,
        backend_args=dict(backend='atomic'),
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # tools/train.py --pretrained names the checkpoint, or it is an error.
    pretrained=dict(type='PretrainedHook', checkpoint=None),
    skipped_images=dict(type='SkippedImagesHook'),
    results=dict(type='ResultsHook'),
)

log_processor = dict(type='SwAVLogProcessor', by_epoch=True, window_size=50)

load_from = None
resume = False
