#!/usr/bin/env bash
# Test a segmentation network that was trained by the scripts in this folder.
source "$(dirname "$0")/../../launch.sh"
GPUS=${GPUS:-4}
transfer test.py '' "$@"
