#!/usr/bin/env bash
# Accuracy of nearest neighbors among the features of a checkpoint.
source "$(dirname "$0")/../../launch.sh"
measure test.py '' "$@"
