#!/usr/bin/env bash
# Search bit widths. Without arguments: the embedded default, real handwritten digits with few labels, for the best
# network of at most 5.25 KiB; it ends with a table, pictures, report.html and the network in C.
# With arguments: passed to `po2quant search`; see `scripts/search.sh --help`.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
[ $# -gt 0 ] || set -- --benchmark digits_few --max-kib 5.25 --max-trials 16 --epochs 3 --retrain-epochs 10
exec .venv/bin/po2quant search "$@"
