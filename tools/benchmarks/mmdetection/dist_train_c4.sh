#!/usr/bin/env bash
# Train a C4 detector; the last stage of the pretrained ResNet is in its heads.
source "$(dirname "$0")/../../launch.sh"
transfer train.py --pretrained "$@"
