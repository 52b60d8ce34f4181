#!/usr/bin/env bash
# Makes .venv-finn/ with the front end of FINN (the fork finn-plus, without what builds FPGA designs) and hls4ml. The
# study of targets finds it there.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ ! -x .venv-finn/bin/python ]; then
    python3 -m venv .venv-finn
fi
.venv-finn/bin/python -m pip install --quiet "qonnx==1.0.0" "onnx==1.21.0" "numpy<2.4" onnxruntime "hls4ml==1.3.0" onnxscript \
    onnx-ir bitstring pydantic rich mip toposort scipy "setuptools<81" onnxoptimizer
.venv-finn/bin/python -m pip install --quiet --no-deps "finn-plus==1.6.1" "onnx-passes==0.4.1"
.venv-finn/bin/python -c "import hls4ml; from finn.transformation.qonnx.convert_qonnx_to_finn import ConvertQONNXtoFINN"
