#!/usr/bin/env bash
# Trains on the GPUs of a SLURM cluster, one process for each GPU. To be submitted
# from the root of a clone that all nodes see; workdir and data are shared, too.
#
#   sbatch scripts/cloud/slurm.sh train --config transfers/vqav2.py \
#     --workdir /shared/runs/vqav2
#   sbatch --nodes=4 --time=4:00:00 scripts/cloud/slurm.sh train ...
#   scancel --signal=TERM JOB    saves and goes on later; scancel JOB: saves, ends
#
# Before its time is over, or when it is preempted, the run saves, exits with
# 143 and is queued again under the same number.
#SBATCH --job-name=pg
#SBATCH --nodes=2
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=pg-%j.log
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:?: this is for sbatch}"
[[ -e scripts/setup.sh ]] || {
  echo "Submit this from the root of the clone; $PWD is not one." >&2
  exit 1
}
# Here, on a node with GPUs, once for all nodes: setup.sh looks for what jax is
# to run on. Compiled programs are kept in ~/.cache/pg, which nodes share, too.
# shellcheck source=scripts/setup.sh
source scripts/setup.sh
require requirements.txt

# SLURM's signal is for the processes; this shell waits until they have saved.
# One that has ended must not have the others killed while they still write: they
# end by themselves.
trap : TERM
status=0
srun --kill-on-bad-exit=0 bash scripts/run.sh "$@" || status=$?

# A job that scancel ended is not running any more, and stays ended; one that was
# preempted is queued by SLURM.
if ((status == 143)) &&
  [[ $(squeue --noheader --job "$SLURM_JOB_ID" --format %T) == RUNNING ]]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
