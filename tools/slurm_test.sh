#!/usr/bin/env bash
# Test on GPUs of a Slurm cluster.
source "$(dirname "$0")/launch.sh"
measure test.py '' "$@"
