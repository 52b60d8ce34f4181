#!/usr/bin/env bash
# Makes .venv-tflite-micro/ with tflite-micro, whose kernels are those of LiteRT for microcontrollers. The tests and the
# exchange study find it there.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ ! -x .venv-tflite-micro/bin/python ]; then
    python3 -m venv .venv-tflite-micro
fi
.venv-tflite-micro/bin/python -m pip install --quiet "tflite-micro==0.dev20261023182759"
.venv-tflite-micro/bin/python -c "import tflite_micro; print('tflite-micro')"
