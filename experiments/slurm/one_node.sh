#!/bin/bash
# Run an experiment on one machine, with all devices of the job:
#
#   sbatch experiments/slurm/one_node.sh experiments/mnist_cnn.py [FLAG ...]
#
# Flags of sbatch come first and override those below: sbatch --gpus=4 --time=10:00:00 experiments/slurm/...
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --time=01:00:00
# Signal the run two minutes before the limit (Slurm may be a minute early), so that it saves.
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append

experiment=${1:?usage: sbatch one_node.sh EXPERIMENT.py [FLAG ...]}
shift
# srun does not inherit this from sbatch.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
# A requeued job keeps its number. RUN_DIR overrides the run directory.
run_dir=${RUN_DIR:-runs/$(basename "$experiment" .py)/job-$SLURM_JOB_ID}
if [ -e "$run_dir/config.json" ]; then set -- "$@" --resume; fi

srun python "$experiment" --run-dir "$run_dir" "$@"
status=$?

# 130 means that the run saved before it finished. After scancel, the job is not RUNNING; don't requeue it.
state=$(squeue --noheader --job="$SLURM_JOB_ID" --format=%T)
if [ $status -eq 130 ] && [ "$state" = RUNNING ]; then exec scontrol requeue "$SLURM_JOB_ID"; fi
exit $status
