"""Settings of every pretraining: seed, logs, checkpoints, devices."""

default_scope = 'swav_plugin'

default_hooks = dict(
    # mmengine's own reads the loss from the device in every iteration; this
    # one when a line is logged.
    runtime_info=dict(type='DeferredRuntimeInfoHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # Saves the whole run: weights, optimizer, schedule, queue. The
    # 'atomic' backend never leaves half a file behind.
    checkpoint=dict(
        type='CheckpointHook',
        interval=10,
        max_keep_ckpts=3,
        backend_args=dict(backend='atomic'),
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # Ours; a recipe states the arguments it changes. With our commands, None
    # turns one off; mmengine alone takes None for its own hooks only.
    swav=dict(type='SwAVHook', freeze_prototypes_iters=0, queue_begin_epoch=0),
    skipped_images=dict(type='SkippedImagesHook'),
    # Says after each epoch whether the run learns, and if not, what to change.
    health=dict(type='HealthHook', stop_on_collapse=False),
    # Writes report.html at the end; its pictures wait for the network at most
    # this long.
    report=dict(type='ReportHook', max_seconds=30),
)

# One process per GPU: SyncBN makes the batch statistics those of all GPUs.
sync_bn = 'torch'
launcher = 'none'
env_cfg = dict(
    # Two input sizes, both fixed: the search for the fastest kernels pays.
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)

# 31 is upstream's; it also keys every random view.
randomness = dict(seed=31, deterministic=False)

log_level = 'INFO'
log_processor = dict(type='SwAVLogProcessor', by_epoch=True, window_size=50)
# For TensorBoard add a TensorboardVisBackend. The curves of the report come
# from what the local one writes.
visualizer = dict(
    type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]
)

load_from = None
resume = False
