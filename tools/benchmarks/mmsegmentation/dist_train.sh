#!/usr/bin/env bash
# Train a segmentation network on a pretrained ResNet.
source "$(dirname "$0")/../../launch.sh"
transfer train.py --pretrained "$@"
