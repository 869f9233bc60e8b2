"""SwAV, ResNet-50, 200 epochs of ImageNet on one small GPU, 4 x 64 images.

The 8xb32 recipe with gradients of 4 batches of 64 accumulated into each step
of the optimizer. Our recipe, not measured here; nobody has published a number
for it.

Command:
    python tools/train.py configs/selfsup/swav/\
swav_resnet50_1xb64-accum4-mcrop-2-6-coslr-200e_in1k-224-96.py --amp

What accumulation means here:
- Learning rate: a step sees 256 images, so 0.6 stays as it is.
- Codes: computed for 64 images at a time, which alone cannot spread over 3000
  prototypes. With the queue 64 + 3840 embeddings are assigned together, as 256
  + 3840 are on 4 or 8 GPUs, so epsilon 0.05 stays. Hence the queue starts with
  epoch 1, once the prototypes are no longer frozen, instead of epoch 15. It is
  pushed to at every batch of 64 and is full after 60 of them: 15 steps of the
  optimizer, the age upstream's queue has. If the loss jumps up when the queue
  starts, start it later.
- BN: statistics of 64 images.
- prototypes frozen: counted in steps of the optimizer. 20,018 batches an epoch
  are 5,004.5 steps.
"""

_base_ = './swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96.py'

model = dict(head=dict(num_prototypes=3000, queue_length=3840))

train_dataloader = dict(batch_size=64)

optim_wrapper = dict(accumulative_counts=4)

# The size of one batch: mmengine does not count the accumulation.
auto_scale_lr = dict(base_batch_size=64)

default_hooks = dict(swav=dict(queue_begin_epoch=1))
