#!/usr/bin/env bash
# Train a detector with a feature pyramid on a pretrained ResNet.
source "$(dirname "$0")/../../launch.sh"
transfer train.py --pretrained "$@"
