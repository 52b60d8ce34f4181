#!/usr/bin/env bash
# A search on a Slurm cluster: task 0 is the chief, all others are workers. The run folder must lie on a shared file system.
#   sbatch --ntasks=5 --cpus-per-task=4 scripts/cluster/slurm.sh /shared/run --benchmark digits --max-trials 100
#SBATCH --job-name=po2quant-search
#SBATCH --kill-on-bad-exit=0
#SBATCH --requeue
set -euo pipefail
run=$1
shift
if [ -z "${SLURM_PROCID:-}" ] || [ -z "${SLURM_STEP_ID:-}" ]; then
    exec srun --kill-on-bad-exit=0 "$0" "$run" "$@"
fi
port=${PO2QUANT_PORT:-7777}
chief=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
exec "$(dirname "$0")/role.sh" "$SLURM_PROCID" "$chief:$port" "$run" "$@"
