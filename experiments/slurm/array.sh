#!/bin/bash
# An experiment once for each seed, as a job array; then the table of all:
#
#   sbatch --array=0-4 experiments/slurm/array.sh experiments/mnist_cnn.py [FLAG ...]
#   python experiments/compare.py runs/mnist_cnn/array-JOB/*
#
#SBATCH --array=0-4
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --time=01:00:00
# Two minutes before the limit (Slurm may be a minute early) each run is told to save and stop.
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append

experiment=${1:?usage: sbatch array.sh EXPERIMENT.py [FLAG ...]}
shift
# srun does not take it over from sbatch.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
# The array's number stays the same when a part of it runs again. RUN_DIR names another folder for all.
name=runs/$(basename "$experiment" .py)/array-$SLURM_ARRAY_JOB_ID
run_dir=${RUN_DIR:-$name}/seed-$SLURM_ARRAY_TASK_ID
if [ -e "$run_dir/config.json" ]; then set -- "$@" --resume; fi

srun python "$experiment" --seed "$SLURM_ARRAY_TASK_ID" --run-dir "$run_dir" "$@"
status=$?

# 130: the run has saved, and has more to do. After scancel the job is no longer RUNNING: it stays ended.
# The array's number alone would mean all of its parts.
part=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
state=$(squeue --noheader --job="$part" --format=%T)
if [ $status -eq 130 ] && [ "$state" = RUNNING ]; then exec scontrol requeue "$part"; fi
exit $status
