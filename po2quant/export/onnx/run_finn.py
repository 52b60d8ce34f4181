"""Runs in an environment with FINN, without po2quant: converts a QONNX file and computes what comes out of it.

``python run_finn.py FOLDER`` reads ``network.onnx`` and the array ``x`` of ``inputs.npz`` there, one sample a row, and
writes the outputs after ``ConvertQONNXtoFINN`` into ``outputs.npz``, with the operators that the graph then has.
"""

import sys
from pathlib import Path

import numpy as np
from finn.transformation.qonnx.convert_qonnx_to_finn import ConvertQONNXtoFINN
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.util.cleanup import cleanup_model


def main(folder):
    """Convert and run what is in a folder."""
    model = cleanup_model(ModelWrapper(str(folder / "network.onnx"))).transform(ConvertQONNXtoFINN())
    (given,), (wanted,) = model.graph.input, model.graph.output
    x = np.load(folder / "inputs.npz")["x"]
    outputs = [execute_onnx(model, {given.name: x[i : i + 1]})[wanted.name] for i in range(len(x))]
    operators = sorted({node.op_type for node in model.graph.node})
    np.savez(folder / "outputs.npz", y=np.concatenate(outputs), operators=np.array(operators))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
