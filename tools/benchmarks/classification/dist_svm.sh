#!/usr/bin/env bash
# Linear SVMs on the features of a checkpoint: VOC07, with all labels and few.
source "$(dirname "$0")/../../launch.sh"
measure test.py '' "$@"
