#!/usr/bin/env bash
# Run the tests; arguments are passed to pytest.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
exec .venv/bin/python -m pytest "$@"
