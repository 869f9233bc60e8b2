"""SwAV, ResNet-50, 200 epochs of ImageNet at batch 256 on one GPU.

The 8xb32 recipe on one large GPU: same batch, same rate, same queue. BN over
256 images is what SyncBN computes over 8 x 32, so the expected number is that
recipe's, 72.7 linear (facebookresearch/swav), and it is not measured here.

Command:
    python tools/train.py configs/selfsup/swav/\
swav_resnet50_1xb256-mcrop-2-6-coslr-200e_in1k-224-96.py --amp

Memory: in fp32 8 times the 11.3 GB that EasyCV states for 32 images; with
--amp expect to need an 80 GB GPU. With less memory, the 1xb64-accum4 recipe.
"""

_base_ = './swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96.py'

train_dataloader = dict(batch_size=256, num_workers=16)

train_cfg = dict(max_epochs=200)
