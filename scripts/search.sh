#!/usr/bin/env bash
# Search bit widths. Without arguments: the embedded default, real handwritten digits.
# With arguments: passed to `po2quant search`; see `scripts/search.sh --help`.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
[ $# -gt 0 ] || set -- --benchmark digits --max-trials 24 --epochs 3 --retrain-epochs 15
exec .venv/bin/po2quant search "$@"
