#!/usr/bin/env bash
# Retrain a network with power-of-two scales. Without arguments: the committed best configuration of the
# embedded default. With arguments: passed to `po2quant finetune`; see `scripts/finetune.sh --help`.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
[ $# -gt 0 ] || set -- --benchmark digits --config mpq --alpha auto_po2
exec .venv/bin/po2quant finetune "$@"
