#!/usr/bin/env bash
# Train on several GPUs (or CPU processes) of one machine, or of NNODES.
source "$(dirname "$0")/launch.sh"
[[ $2 =~ ^[1-9][0-9]*$ ]] || usage 'CONFIG GPUS [arguments of train.py]'
dist "$2" train.py "$1" "${@:3}"
