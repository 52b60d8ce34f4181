#!/usr/bin/env bash
# One process of a search: number 0 is the chief, every other one a worker. An interrupted chief goes on where it was.
#   scripts/cluster/role.sh NUMBER HOST:PORT RUN OPTIONS...
set -euo pipefail
number=$1 oracle=$2 run=$3
shift 3
po2quant=${PO2QUANT:-po2quant}
if [ "$number" != 0 ]; then
    until [ -f "$run/config.json" ]; do sleep 2; done
    exec $po2quant search --role worker --oracle "$oracle" --output-dir "$run"
fi
resume=()
[ -f "$run/config.json" ] && resume=(--resume)
exec $po2quant search --role chief --oracle "$oracle" --output-dir "$run" "${resume[@]}" "$@"
