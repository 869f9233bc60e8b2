#!/usr/bin/env bash
# Accuracy of nearest neighbours among the features of a checkpoint.
source "$(dirname "$0")/../../launch.sh"
measure test.py '' "$@"
