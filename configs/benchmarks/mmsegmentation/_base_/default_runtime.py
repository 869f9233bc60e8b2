"""Settings of all segmentation benchmarks: scope, seed."""

_base_ = 'mmseg::_base_/default_runtime.py'

# Registers our classes in commands of others, such as mmseg's own.
custom_imports = dict(
    imports=['swav_plugin.engine'], allow_failed_imports=False
)

# Never train from a random backbone by mistake: see --pretrained. Not in
# default_hooks, which mmseg's schedules have: no two bases may share a key.
custom_hooks = [
    dict(type='swav_plugin.PretrainedHook'),
    dict(type='swav_plugin.ResultsHook'),
]

randomness = dict(seed=0, deterministic=False)
