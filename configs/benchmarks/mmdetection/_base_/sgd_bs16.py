"""SGD for 16 images a step; the learning rate grows with their number."""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4),
)

# mmengine scales the rate for other numbers of GPUs if this is enabled.
auto_scale_lr = dict(enable=False, base_batch_size=16)
