#!/usr/bin/env bash
# Test a classifier that dist_train_linear.sh or slurm_train_linear.sh trained.
source "$(dirname "$0")/../../launch.sh"
measure test.py '' "$@"
