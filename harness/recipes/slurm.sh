#!/bin/bash
# A Ray cluster inside one Slurm job: sbatch slurm.sh. Put in your own folder, environment and study. When the time is up,
# submit it again: what is done is kept, and unfinished trials go on after their last whole epoch.
# Before the first: btsr-data download all --accept-terms --data-dir ~/btsr-runs/data (about 4.4 GB; Yelp has terms that
# no sweep accepts for you).
# With GPUs: pip install ".[cuda]" into the environment, and add #SBATCH --gpus-per-task=1 here and --gpus-per-trial 0.25 below.
#SBATCH --job-name=btsr
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120
set -euo pipefail

SHARED=${SHARED:-$HOME/btsr-runs}   # a folder that all nodes see: raw data, prepared data, checkpoints
DATABASE=${DATABASE:?name a database: postgresql://user@host/name, or a file on a disk that is not a network one}
source "$HOME/btsr/.venv/bin/activate"

export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK   # srun does not take it from the job by itself: trials would share one
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(python3 -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 10000))
trap 'kill $(jobs -p) 2> /dev/null || true' EXIT

srun --nodes=1 --ntasks=1 --nodelist="$head" \
  ray start --head --port="$port" --num-cpus="$SLURM_CPUS_PER_TASK" --block &
sleep 20
if [ "$SLURM_NNODES" -gt 1 ]; then
  srun --nodes=$((SLURM_NNODES - 1)) --ntasks=$((SLURM_NNODES - 1)) --exclude="$head" \
    ray start --address="$head:$port" --num-cpus="$SLURM_CPUS_PER_TASK" --block &
  sleep 20
fi

btsr-sweep --study alpha_lambda --dataset all --ray-address "$head:$port" --data-dir "$SHARED/data" --out "$SHARED" \
  --db "$DATABASE" &
sweep=$!
trap 'kill -TERM "$sweep"' TERM     # Slurm warns two minutes before the end: the sweep stops in seconds
while kill -0 "$sweep" 2> /dev/null; do
  code=0
  wait "$sweep" || code=$?
done
exit "$code"
