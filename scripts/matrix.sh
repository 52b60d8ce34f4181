#!/usr/bin/env bash
# Score a network under every configuration and kind of scales, and rebuild best_configs/RESULTS.csv and RESULTS.md.
# Without arguments: the embedded default. With arguments: passed to `po2quant matrix`; see `scripts/matrix.sh --help`.
# `po2quant matrix` itself writes its table beside its run folders.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
exec .venv/bin/po2quant matrix --results best_configs/RESULTS.csv "$@"
