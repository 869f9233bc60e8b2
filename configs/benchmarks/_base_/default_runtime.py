"""Settings of all classification benchmarks: seed, logs, devices."""

default_scope = 'swav_plugin'

launcher = 'none'
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)

randomness = dict(seed=0, deterministic=False)

log_level = 'INFO'
log_processor = dict(by_epoch=True)
visualizer = dict(
    type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]
)
