#!/usr/bin/env bash
# Train on GPUs of a Slurm cluster, and go on when the time of the job is over:
# two minutes before, and when the job is preempted, the run saves and ends with
# code 75. Then the batch job is queued again; outside of one, srun starts anew.
# A job that was cancelled saves, too, but stays cancelled.
source "$(dirname "$0")/launch.sh"
[[ $# -ge 4 ]] || usage 'PARTITION JOB CONFIG WORK_DIR [arguments of train.py]'
srun_more=(--signal="USR1@${GRACE_S:-120}")
arguments=("${@:5}")
work_dir=$4
most_idle_starts=5

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
    check_progress
}

# Count the starts since the last new checkpoint, in a file: Slurm starts this
# script anew. The checkpoint that a start found is known by its time.
check_progress() {
    local note=$work_dir/.idle_starts idle=0 found last
    found=$(stat --format=%y "$work_dir/last_checkpoint" 2>/dev/null) ||
        found=none
    if { read -r idle && read -r last; } 2>/dev/null <"$note" &&
        [[ $last == "$found" && $idle =~ ^[0-9]+$ ]]; then
        idle=$((idle + 1))
    else
        idle=0
    fi
    mkdir -p "$work_dir"
    printf '%s\n' "$idle" "$found" >"$note"
    if [[ $idle -ge $most_idle_starts ]]; then
        rm "$note"
        give_up 1 "$idle starts in a row have saved no new checkpoint in" \
            "$work_dir, so it is not started again: give the job more time" \
            "(--time), or see above what takes it, such as a long validation"
    fi
}

# give_up CODE WORDS...: say why nothing is started again, and end.
give_up() {
    echo "slurm_train.sh: ${*:2}" >&2
    exit "$1"
}

# What Slurm says of this job: RUNNING in the grace time before a preemption,
# too, and COMPLETING or CANCELLED after scancel.
job_state() {
    local job
    job=$(scontrol --oneliner show job "$SLURM_JOB_ID" |
        grep "^JobId=$SLURM_JOB_ID ") || true
    [[ $job =~ JobState=([A-Z_]+) ]] && echo "${BASH_REMATCH[1]}" ||
        echo 'unknown to scontrol'
}

if [[ ${SLURM_RESTART_COUNT:-0} -eq 0 ]]; then
    rm -f "$work_dir/.idle_starts"
else
    go_on
fi
while :; do
    resume=(--resume) # from the newest checkpoint, if there is one
    [[ " ${arguments[*]} " == *" --resume"* ||
        " ${arguments[*]} " == *" --overwrite "* ]] && resume=()
    code=0
    rm -f "$work_dir/stopped_by" # of the start before
    slurm "$1" "$2" train.py "$3" --work-dir "$work_dir" \
        "${arguments[@]}" "${resume[@]}" || code=$?
    [[ $code -eq 75 ]] || exit $code
    if [[ -n ${SLURM_JOB_ID:-} ]]; then
        state=$(job_state)
        [[ $state == RUNNING ]] && exec scontrol requeue "$SLURM_JOB_ID"
        give_up 75 "job $SLURM_JOB_ID is $state, so it is not queued again;" \
            "the same command goes on from $work_dir"
    fi
    # What srun was given as a job of its own is gone: the run has noted which
    # signal it got. Only the one that this script asks for says "go on".
    signal=$(cat "$work_dir/stopped_by" 2>/dev/null) || true
    [[ $signal == SIGUSR1 ]] ||
        give_up 75 "stopped by ${signal:-an unknown signal}, not by the end" \
            'of its time (SIGUSR1), so it is not started again; the same' \
            "command goes on from $work_dir"
    go_on
done
