#!/usr/bin/env bash
# Train a segmentation network on a pretrained ResNet.
source "$(dirname "$0")/../../launch.sh"
GPUS=${GPUS:-4}
transfer train.py --pretrained "$@"
