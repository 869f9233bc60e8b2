#!/usr/bin/env bash
# Train on GPUs of a Slurm cluster, and go on when the time of the job is over:
# two minutes before, and when the job is preempted, the run saves and ends with
# code 75. Then the batch job is queued again; outside of one, srun starts anew.
source "$(dirname "$0")/launch.sh"
[[ $# -ge 4 ]] || usage 'PARTITION JOB CONFIG WORK_DIR [arguments of train.py]'
srun_more=(--signal="USR1@${GRACE_S:-120}")
arguments=("${@:5}")

# Whatever the first start began from, later ones go on from the newest
# checkpoint: neither start over nor take that of --resume CHECKPOINT again.
go_on() {
    local kept=() argument is_after_resume=
    for argument in "${arguments[@]}"; do
        if [[ -n $is_after_resume && $argument != -* ]]; then
            is_after_resume=
            continue
        fi
        is_after_resume=
        case $argument in
            --overwrite | --resume=*) ;;
            --resume) is_after_resume=yes ;;
            *) kept+=("$argument") ;;
        esac
    done
    arguments=("${kept[@]}")
}

[[ ${SLURM_RESTART_COUNT:-0} -eq 0 ]] || go_on
while :; do
    resume=(--resume) # from the newest checkpoint, if there is one
    [[ " ${arguments[*]} " == *" --resume"* ||
        " ${arguments[*]} " == *" --overwrite "* ]] && resume=()
    code=0
    slurm "$1" "$2" train.py "$3" --work-dir "$4" \
        "${arguments[@]}" "${resume[@]}" || code=$?
    [[ $code -eq 75 ]] || exit $code
    if [[ -n ${SLURM_JOB_ID:-} ]]; then
        exec scontrol requeue "$SLURM_JOB_ID"
    fi
    go_on
done
