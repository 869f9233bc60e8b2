#!/usr/bin/env bash
# Train on GPUs of a Slurm cluster.
source "$(dirname "$0")/launch.sh"
[[ $# -ge 4 ]] || usage 'PARTITION JOB CONFIG WORK_DIR [arguments of train.py]'
slurm "$1" "$2" train.py "$3" --work-dir "$4" "${@:5}"
