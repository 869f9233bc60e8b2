#!/usr/bin/env bash
# Train on several GPUs (or CPU processes) of one machine, or of NNODES.
set -e
case $2 in
'' | *[!0-9]*)
    echo "Usage: [NNODES=1 NODE_RANK=0 MASTER_ADDR=127.0.0.1 PORT=29500" \
        "PYTHON=python] $0 CONFIG GPUS [arguments of train.py]" >&2
    exit 2
    ;;
esac
config=$1
gpus=$2
shift 2
tools=$(cd "$(dirname "$0")" && pwd)

PYTHONPATH=$(dirname "$tools")${PYTHONPATH:+:$PYTHONPATH} \
    exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" --nproc_per_node="$gpus" \
    "$tools/train.py" "$config" --launcher pytorch "$@"
