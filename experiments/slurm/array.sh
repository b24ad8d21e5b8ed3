#!/bin/bash
# Run an experiment with several seeds as a job array, then compare the runs:
#
#   sbatch --array=0-4 experiments/slurm/array.sh experiments/mnist_cnn.py [FLAG ...]
#   python experiments/compare.py runs/mnist_cnn/array-JOB/*
#
#SBATCH --array=0-4
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --time=01:00:00
# Signal each run two minutes before the limit (Slurm may be a minute early), so that it saves.
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append

experiment=${1:?usage: sbatch array.sh EXPERIMENT.py [FLAG ...]}
shift
# srun does not inherit this from sbatch.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
# A requeued task keeps the number of its array. RUN_DIR overrides the parent of all run directories.
name=runs/$(basename "$experiment" .py)/array-$SLURM_ARRAY_JOB_ID
run_dir=${RUN_DIR:-$name}/seed-$SLURM_ARRAY_TASK_ID
if [ -e "$run_dir/config.json" ]; then set -- "$@" --resume; fi

srun python "$experiment" --seed "$SLURM_ARRAY_TASK_ID" --run-dir "$run_dir" "$@"
status=$?

# 130 means that the run saved before it finished. After scancel, the job is not RUNNING; don't requeue it.
# The number of the array alone would requeue all tasks.
part=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
state=$(squeue --noheader --job="$part" --format=%T)
if [ $status -eq 130 ] && [ "$state" = RUNNING ]; then exec scontrol requeue "$part"; fi
exit $status
