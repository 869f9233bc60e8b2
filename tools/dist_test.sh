#!/usr/bin/env bash
# Test on several GPUs (or CPU processes) of one machine, or of NNODES.
source "$(dirname "$0")/launch.sh"
[[ $3 =~ ^[1-9][0-9]*$ ]] || usage 'CONFIG CHECKPOINT GPUS [arguments of test.py]'
dist "$3" test.py "$1" "$2" "${@:4}"
