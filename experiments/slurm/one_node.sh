#!/bin/bash
# An experiment on one machine, with all of its devices that the job is given:
#
#   sbatch experiments/slurm/one_node.sh experiments/mnist_cnn.py [FLAG ...]
#
# Flags of sbatch come first and win over those here: sbatch --gpus=4 --time=10:00:00 experiments/slurm/...
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --time=01:00:00
# Two minutes before the limit (Slurm may be a minute early) the run is told to save and stop.
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append

experiment=${1:?usage: sbatch one_node.sh EXPERIMENT.py [FLAG ...]}
shift
# srun does not take it over from sbatch.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
# The job's number stays the same when it runs again. RUN_DIR names another folder.
run_dir=${RUN_DIR:-runs/$(basename "$experiment" .py)/job-$SLURM_JOB_ID}
if [ -e "$run_dir/config.json" ]; then set -- "$@" --resume; fi

srun python "$experiment" --run-dir "$run_dir" "$@"
status=$?

# 130: the run has saved, and has more to do. After scancel the job is no longer RUNNING: it stays ended.
state=$(squeue --noheader --job="$SLURM_JOB_ID" --format=%T)
if [ $status -eq 130 ] && [ "$state" = RUNNING ]; then exec scontrol requeue "$SLURM_JOB_ID"; fi
exit $status
