#!/usr/bin/env bash
# A pod of scripts/cluster/kubernetes.yaml: its completion index is its number. The chief listens at its own address.
set -euo pipefail
run=$1
shift
number=${JOB_COMPLETION_INDEX:?}
chief=po2quant-search-0.po2quant-search
[ "$number" = 0 ] && chief=$(hostname -i)
exec "$(dirname "$0")/role.sh" "$number" "$chief:${PO2QUANT_PORT:-7777}" "$run" "$@"
