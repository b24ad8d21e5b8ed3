#!/bin/bash
# An experiment as one run of several processes, on several machines:
#
#   sbatch --nodes=4 experiments/slurm/several_nodes.sh experiments/mnist_cnn.py [FLAG ...]
#
# One process a machine where there are only CPUs, one a GPU where there are GPUs:
#
#   sbatch --nodes=2 --gpus-per-node=8 --ntasks-per-node=8 experiments/slurm/several_nodes.sh ...
#
# The run directory has to be on a disk that all machines share.
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --time=01:00:00
# Two minutes before the limit (Slurm may be a minute early) the run is told to save and stop.
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append

experiment=${1:?usage: sbatch several_nodes.sh EXPERIMENT.py [FLAG ...]}
shift
# srun does not take it over from sbatch.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
# The job's number stays the same when it runs again. RUN_DIR names another folder.
run_dir=${RUN_DIR:-runs/$(basename "$experiment" .py)/job-$SLURM_JOB_ID}
if [ -e "$run_dir/config.json" ]; then set -- "$@" --resume; fi

# Which process is which, and where the first one answers, JAX has from Slurm.
srun python "$experiment" --distributed --run-dir "$run_dir" "$@"
status=$?

# 130: the run has saved, and has more to do. After scancel the job is no longer RUNNING: it stays ended.
state=$(squeue --noheader --job="$SLURM_JOB_ID" --format=%T)
if [ $status -eq 130 ] && [ "$state" = RUNNING ]; then exec scontrol requeue "$SLURM_JOB_ID"; fi
exit $status
