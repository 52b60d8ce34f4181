#!/usr/bin/env bash
# Makes .venv-hgq2/ with HGQ2, whose quantizers learn their widths by gradient. The study of peers finds it there.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ ! -x .venv-hgq2/bin/python ]; then
    python3 -m venv .venv-hgq2
fi
.venv-hgq2/bin/python -m pip install --quiet "hgq2==0.2.0" "tensorflow==2.21.0" "keras==3.15.1"
.venv-hgq2/bin/python -c "import hgq.layers"
