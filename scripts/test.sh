#!/usr/bin/env bash
# Run the quick tests, which touch every room; with --all as the first argument, all of them.
# Further arguments are passed to pytest. Files are shared out among processes, one for each of up to four cores.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
selection=(-m "not slow")
if [ "${1:-}" = --all ]; then
    selection=()
    shift
fi
exec .venv/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile "${selection[@]}" "$@"
