#!/usr/bin/env bash
# Test on several GPUs (or CPU processes) of one machine, or of NNODES.
set -e
case $3 in
'' | *[!0-9]*)
    echo "Usage: [NNODES=1 NODE_RANK=0 MASTER_ADDR=127.0.0.1 PORT=29500" \
        "PYTHON=python] $0 CONFIG CKPT GPUS [arguments of test.py]" >&2
    exit 2
    ;;
esac
config=$1
checkpoint=$2
gpus=$3
shift 3
tools=$(cd "$(dirname "$0")" && pwd)

PYTHONPATH=$(dirname "$tools")${PYTHONPATH:+:$PYTHONPATH} \
    exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" --nproc_per_node="$gpus" \
    "$tools/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
