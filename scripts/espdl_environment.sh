#!/usr/bin/env bash
# Makes .venv-espdl/ with esp-ppq, which writes and executes ESP-DL networks: it wants an older onnx than po2quant, and
# PyTorch, which takes 6 GB. `po2quant export --format espdl` and the tests find it there.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ ! -x .venv-espdl/bin/python ]; then
    python3 -m venv .venv-espdl
fi
.venv-espdl/bin/python -m pip install --quiet "esp-ppq>=1.3.12,<1.4" "onnx>=1.17,<1.18" torch "setuptools<81"
.venv-espdl/bin/python -c "import esp_ppq, torch; print('torch', torch.__version__)"
