"""Runs in an environment with esp-ppq, without po2quant: gives a graph its exponents, runs it and writes ESP-DL.

``python convert.py FOLDER`` reads ``graph.onnx``, ``quantization.json``, ``biases.npz`` and ``inputs.npz`` there. It
writes ``network.espdl``, ``network.info`` and ``integers.npz``: every tensor as esp-ppq's executor computes it.
"""

import json
import sys
from pathlib import Path

import esp_ppq.lib as ppq
import numpy as np
import torch
from esp_ppq.api import get_target_platform
from esp_ppq.api.interface import load_onnx_graph
from esp_ppq.core import QuantizationStates
from esp_ppq.executor import TorchExecutor
from esp_ppq.parser.espdl_exporter import EspdlExporter


def quantized_graph(folder, spec):
    """Return the graph with the exponents of the specification, and the operations of its chip."""
    platform = get_target_platform(spec["chip"], spec["bits"], hi_precision=spec["bits"] == 16)
    graph = load_onnx_graph(str(folder / "graph.onnx"))
    quantizer = ppq.Quantizer(platform, graph)
    for name in list(graph.operations):
        quantizer.quantize_operation(name, platform)
    for operation in graph.operations.values():
        for config, variable in operation.config_with_variable:
            exponents = spec["exponents"].get(variable.name)
            if exponents is None:
                config.state = QuantizationStates.FP32
                continue
            scales = torch.tensor(np.ldexp(1.0, exponents), dtype=torch.float32)
            config.scale = scales if len(exponents) > 1 or variable.name in spec["by_channel"] else scales[0]
            config.offset = torch.zeros_like(config.scale)
            config.state = QuantizationStates.ACTIVATED
    with np.load(folder / "biases.npz") as biases:
        for name in biases.files:  # those of the graph are float32, which holds 24 bits
            graph.variables[name].value = torch.tensor(np.ldexp(biases[name].astype(float), spec["exponents"][name]))
    followed_by_relu(graph)
    return graph


def followed_by_relu(graph):
    """Let what a Relu alone reads be quantized after it, as the chip does."""
    for operation in graph.operations.values():
        if operation.type != "Relu":
            continue
        (result,) = operation.output_quant_config
        before = operation.inputs[0].source_op
        operation.input_quant_config[0].dominated_by = result
        before.output_quant_config[before.outputs.index(operation.inputs[0])].dominated_by = result


def computed(graph, spec, inputs):
    """Return every quantized tensor that is no weight, as integers, in the order of the graph's axes."""
    names = [name for name in spec["exponents"] if name in graph.variables and not graph.variables[name].is_parameter]
    executor = TorchExecutor(graph, device="cpu")
    samples = {name: [] for name in names}
    for sample in range(len(next(iter(inputs.values())))):
        feeds = {name: torch.tensor(values[sample : sample + 1]) for name, values in inputs.items()}
        for name, value in zip(names, executor.forward(feeds, output_names=names), strict=True):
            samples[name].append(np.ldexp(value.double().numpy(), -spec["exponents"][name][0]))
    return {name: np.concatenate(values) for name, values in samples.items()}


def main(folder):
    """Convert what is in a folder."""
    spec = json.loads((folder / "quantization.json").read_text())
    inputs = dict(np.load(folder / "inputs.npz"))
    torch.set_num_threads(1)
    graph = quantized_graph(folder, spec)
    traced = [torch.tensor(inputs[name][:1]) for name in spec["inputs"]]
    TorchExecutor(graph, device="cpu").tracing_operation_meta(inputs=traced)
    integers = computed(graph, spec, inputs)
    np.savez(folder / "integers.npz", **integers)
    first = {name: np.ldexp(array[:1], spec["exponents"][name][0]) for name, array in integers.items()}
    values = {
        end: {name: torch.tensor(first[name], dtype=torch.float32) for name in spec[end]}
        for end in ("inputs", "outputs")
    }
    EspdlExporter().export(str(folder / "network.espdl"), graph, values_for_test=values)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
