# How scripts start a tool on several processes; they source this file.

set -e
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH=$(dirname "$tools")${PYTHONPATH:+:$PYTHONPATH}
python=${PYTHON:-python}

# usage ARGUMENTS: say how the script is called, and end.
usage() {
    local env='NNODES=1 NODE_RANK=0 MASTER_ADDR=127.0.0.1 PORT=29500'
    [[ ${0##*/} == slurm_* ]] &&
        env="GPUS=${GPUS:-8} GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS=..."
    echo "Usage: [$env PYTHON=python] $0 $1" >&2
    exit 2
}

# dist GPUS TOOL ARGUMENTS...: GPUS (or CPU processes) of each of NNODES.
dist() {
    local port=${PORT:-29500}
    if ! [[ $port =~ ^[0-9]+$ && $port -ge 1 && $port -le 65535 ]]; then
        echo "PORT=$port is not a port: give a number up to 65535" >&2
        exit 2
    fi
    if [[ $1 -gt 1 ]]; then
        export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # torchrun's, but silent
    fi
    if [[ ${NNODES:-1} -eq 1 ]]; then
        "$python" - "$port" <<'EOF'
import socket, sys
try:
    socket.create_server(('', int(sys.argv[1]))).close()
except OSError as error:
    sys.exit(f'port {sys.argv[1]} cannot be used ({error}); another training '
             'on this machine may have it: set PORT to a different one')
EOF
    fi
    exec "$python" -m torch.distributed.run \
        --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
        --master_addr="${MASTER_ADDR:-127.0.0.1}" \
        --master_port="$port" --nproc_per_node="$1" \
        "$tools/$2" "${@:3}" --launcher pytorch
}

# slurm PARTITION JOB TOOL ARGUMENTS...: on GPUS of a Slurm cluster. Options of
# srun that a script adds are in the array srun_more.
srun_more=()
slurm() {
    local gpus=${GPUS:-8} srun_args
    local per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    read -r -a srun_args <<<"${SRUN_ARGS:-}" || true
    srun --partition="$1" --job-name="$2" --gres=gpu:"$per_node" \
        --ntasks="$gpus" --ntasks-per-node="$per_node" \
        --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 \
        "${srun_more[@]}" "${srun_args[@]}" "$python" -u "$tools/$3" "${@:4}" --launcher slurm
}

# measure TOOL OPTION ARGUMENTS...: give a checkpoint to a tool, after OPTION
# if that is not empty. The script's own name says by what it is started.
measure() {
    local tool=$1 option=$2
    shift 2
    if [[ ${0##*/} == slurm_* ]]; then
        [[ $# -ge 4 ]] ||
            usage "PARTITION JOB CONFIG CHECKPOINT [arguments of $tool]"
        slurm "$1" "$2" "$tool" "$3" $option "$4" "${@:5}"
    else
        [[ $# -ge 3 && $2 =~ ^[1-9][0-9]*$ ]] ||
            usage "CONFIG GPUS CHECKPOINT [arguments of $tool]"
        dist "$2" "$tool" "$1" $option "$3" "${@:4}"
    fi
}

# transfer TOOL OPTION ARGUMENTS...: the same for detection and segmentation,
# whose scripts take arguments in another order.
transfer() {
    local tool=$1 option=$2
    shift 2
    if [[ ${0##*/} == slurm_* ]]; then
        [[ $# -ge 3 ]] ||
            usage "PARTITION CONFIG CHECKPOINT [arguments of $tool]"
        slurm "$1" "$(basename "$2" .py)" "$tool" "$2" $option "$3" "${@:4}"
    else
        [[ $# -ge 3 && $3 =~ ^[1-9][0-9]*$ ]] ||
            usage "CONFIG CHECKPOINT GPUS [arguments of $tool]"
        dist "$3" "$tool" "$1" $option "$2" "${@:4}"
    fi
}
