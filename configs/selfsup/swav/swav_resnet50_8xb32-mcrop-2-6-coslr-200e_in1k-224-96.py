"""SwAV, ResNet-50, 200 epochs of ImageNet at batch 256 on 8 GPUs.

Reproduces upstream's 200-epoch run at batch 256 (facebookresearch/swav, 4x64)
in the layout, and under the name, of the mmselfsup page. Where the two differ
this is upstream's: std .228, residual blocks that start at full strength, LARS
with the learning rate outside the momentum buffer, flip before the colors,
codes computed over all GPUs, seed 31. 5,004 iterations an epoch.

Command:
    tools/dist_train.sh configs/selfsup/swav/\
swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96.py 8 --amp

Upstream trained in fp16 (apex O1), hence --amp; mmselfsup in fp32.

Published top-1 on ImageNet, linear, 200 epochs at batch 256 (not measured
here): 72.7 facebookresearch/swav (SGD .3, 100 epochs, best epoch), 73.07
VISSL, 73.618 EasyCV (lr 1.2, cached features), 70.5 mmselfsup.
mmselfsup's other numbers, with its own weights:
    linear on Feature1-5   16.98 34.96 49.26 65.98 70.74
    kNN, k 10/20/100/200   60.5 60.6 59.0 57.6 (T .07)
    VOC07 SVM mAP          87.00, low-shot k=1 44.68 ... k=96 85.15
    Places205 Feature1-5   23.33 35.45 43.13 51.98 55.09
    VOC07+12 C4 AP50       77.64
    COCO FPN 1x            box 40.2, mask 36.3
    VOC12Aug FCN mIoU      63.73
Time: 52 min 10 s an epoch on upstream's 4 GPUs (fp16), 174 hours in all.
Memory: 11.3 GB a GPU (EasyCV, 8x32).

Off by default, one key each, the same algorithm:
    recompute activations  --cfg-options model.backbone.with_cp=True
    torch.compile          --cfg-options model.compile.mode=default
    TensorBoard            see _base_/default_runtime.py
Recomputing updates BN's running statistics twice a step. Do not use mmengine's
activation_checkpointing=[backbone] for it: the images need no gradient, so the
backbone would get none and stay as it is; its stages (backbone.layer1, ...)
may be given.
"""

_base_ = [
    '../_base_/models/swav_resnet50.py',
    '../_base_/datasets/imagenet_mcrop-2-6.py',
    '../_base_/schedules/lars_coslr_bs256.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(num_prototypes=3000, queue_length=3840))

train_dataloader = dict(batch_size=32)

train_cfg = dict(max_epochs=200)

default_hooks = dict(
    swav=dict(
        # One epoch and one iteration: upstream rounds 5004.6 up, while its
        # loader drops the last incomplete batch: 5004.
        freeze_prototypes_iters=5005,
        # Before that, embeddings change too fast for old ones to help.
        queue_begin_epoch=15,
    )
)
