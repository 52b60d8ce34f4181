#!/usr/bin/env bash
# Build the documentation into build/site; a wrong link or name is an error. With --serve: show it, and changes at once.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
export NO_MKDOCS_2_WARNING=1
if [ "${1:-}" = --serve ]; then
    exec .venv/bin/python -m mkdocs serve
fi
exec .venv/bin/python -m mkdocs --quiet build --strict
