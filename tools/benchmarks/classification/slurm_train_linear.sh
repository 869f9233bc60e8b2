#!/usr/bin/env bash
# Train a classifier on a pretrained backbone: linear, semi-supervised, CIFAR.
source "$(dirname "$0")/../../launch.sh"
measure train.py --pretrained "$@"
