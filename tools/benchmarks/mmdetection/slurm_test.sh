#!/usr/bin/env bash
# Test a detector that was trained by the scripts in this folder one.
source "$(dirname "$0")/../../launch.sh"
transfer test.py '' "$@"
