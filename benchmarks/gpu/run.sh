#!/usr/bin/env bash
# Measure as much as fits into the minutes of a GPU that are there:
#   bash benchmarks/gpu/run.sh PART... --data D --out O --minutes M
# --help lists the parts; benchmarks/README.md says what each needs.
set -euo pipefail
benchmarks=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH=$benchmarks/..:$benchmarks${PYTHONPATH:+:$PYTHONPATH}
# Looking for a GPU must not touch it in a process that forks.
export PYTORCH_NVML_BASED_CUDA_CHECK=1
exec "${PYTHON:-python3}" "$benchmarks/gpu/run.py" "$@"
