#!/bin/bash
# Run an experiment in several processes on several machines:
#
#   sbatch --nodes=4 experiments/slurm/several_nodes.sh experiments/mnist_cnn.py [FLAG ...]
#
# Start one process per machine on CPUs, and one per GPU on GPUs:
#
#   sbatch --nodes=2 --gpus-per-node=8 --ntasks-per-node=8 experiments/slurm/several_nodes.sh ...
#
# All machines must share the disk of the run directory.
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --time=01:00:00
# Signal the run two minutes before the limit (Slurm may be a minute early), so that it saves.
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append

experiment=${1:?usage: sbatch several_nodes.sh EXPERIMENT.py [FLAG ...]}
shift
# srun does not inherit this from sbatch.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
# A requeued job keeps its number. RUN_DIR overrides the run directory.
run_dir=${RUN_DIR:-runs/$(basename "$experiment" .py)/job-$SLURM_JOB_ID}
if [ -e "$run_dir/config.json" ]; then set -- "$@" --resume; fi

# JAX takes the index of each process and the address of the first one from Slurm.
srun python "$experiment" --distributed --run-dir "$run_dir" "$@"
status=$?

# 130 means that the run saved before it finished. After scancel, the job is not RUNNING; don't requeue it.
state=$(squeue --noheader --job="$SLURM_JOB_ID" --format=%T)
if [ $status -eq 130 ] && [ "$state" = RUNNING ]; then exec scontrol requeue "$SLURM_JOB_ID"; fi
exit $status
