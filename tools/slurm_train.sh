#!/usr/bin/env bash
# Train on GPUs of a Slurm cluster.
set -e
if [ $# -lt 4 ]; then
    echo "Usage: [GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS=..." \
        "PYTHON=python] $0 PARTITION JOB CONFIG WORK_DIR" \
        "[arguments of train.py]" >&2
    exit 2
fi
partition=$1
job=$2
config=$3
work_dir=$4
shift 4
gpus=${GPUS:-8}
gpus_per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
read -r -a srun_args <<<"${SRUN_ARGS:-}" || true
tools=$(cd "$(dirname "$0")" && pwd)

PYTHONPATH=$(dirname "$tools")${PYTHONPATH:+:$PYTHONPATH} \
    exec srun --partition="$partition" --job-name="$job" \
    --gres=gpu:"$gpus_per_node" --ntasks="$gpus" \
    --ntasks-per-node="$gpus_per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 \
    "${srun_args[@]}" "${PYTHON:-python}" -u "$tools/train.py" "$config" \
    --work-dir "$work_dir" --launcher slurm "$@"
