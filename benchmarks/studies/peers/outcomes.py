"""The peers: what each makes of a trained float network."""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import qkeras
import tensorflow as tf

from po2quant.benchmark import Dataset, Recipe
from po2quant.bit_config import AUTO_PO2, FLAT_BIAS_BITS
from po2quant.cost import WEIGHTS
from po2quant.export.environments import Environment
from po2quant.export.exchange import require
from po2quant.network import FoldedNetwork, walk, weight_quantizers
from po2quant.network.quantized import WEIGHT_QUANTIZERS
from po2quant.training.finetune import require_training_data
from po2quant.uniform import UniformWidths, uniform_widths

BATCH = 128
CALIBRATED, TRAINED = "calibrated", "finetuned"
"""Stages, as the table of results calls them."""
REAL, POWERS_OF_TWO = "real numbers", "powers of two"
LITERT_OPERATIONS = {
    8: tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
    16: tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
}
"""Kernels by the width of activations."""
LITERT_BIAS_BITS = {8: 32, 16: 64}
HGQ2 = Environment("HGQ2", "PO2QUANT_HGQ2_PYTHON", ".venv-hgq2", "scripts/hgq2_environment.sh")


@dataclasses.dataclass(frozen=True)
class Given:
    """What a peer is given.

    Args:
        network: float network, with trained weights.
        inputs: what calibrates, ``(samples, ...)``.
        dataset: what trains; the test split is for predictions alone.
        recipe: how po2quant trains at few bits.
        seed: of what is drawn.
    """

    network: FoldedNetwork
    inputs: np.ndarray
    dataset: Dataset
    recipe: Recipe
    seed: int


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A network that a peer made.

    Args:
        predict: of network inputs, ``(samples, ...)``; of the test inputs as a whole.
        kernel_bits: of all kernels.
        bias_bits: of all biases.
    """

    predict: Callable[[np.ndarray], np.ndarray]
    kernel_bits: int
    bias_bits: int


@dataclasses.dataclass(frozen=True)
class Peer:
    """A tool and what it is asked for.

    Args:
        name: of the tool.
        widths: as :func:`~po2quant.uniform.uniform_widths` names them; of what is trained, where it begins.
        scales: what kind it has.
        stage: ``'calibrated'``, or ``'finetuned'`` where it was trained.
        make: given a network and the widths, returns what it makes.
    """

    name: str
    widths: str
    scales: str
    stage: str
    make: Callable[[Given, UniformWidths], Outcome]

    def outcome(self, given: Given) -> Outcome:
        """Return what it makes of a network."""
        widths = uniform_widths(self.widths)
        if widths is None:
            raise ValueError(f"widths must be a name such as 'w8a8'. Received: {self.widths!r}")
        return self.make(given, widths)


def of_litert(given: Given, widths: UniformWidths) -> Outcome:
    """Return the network after the post-training quantization of TensorFlow's converter, in LiteRT's interpreter."""
    converter = tf.lite.TFLiteConverter.from_keras_model(given.network.source)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([sample[None].astype(np.float32)] for sample in given.inputs)
    converter.target_spec.supported_ops = [LITERT_OPERATIONS[widths.activation]]
    litert = require("ai_edge_litert.interpreter", "running a LiteRT file")
    interpreter = litert.Interpreter(model_content=converter.convert(), num_threads=1)
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(x: np.ndarray) -> np.ndarray:
        found = []
        for start in range(0, len(x), BATCH):
            part = x[start : start + BATCH].astype(np.float32)
            interpreter.resize_tensor_input(source["index"], part.shape)
            interpreter.allocate_tensors()
            interpreter.set_tensor(source["index"], part)
            interpreter.invoke()
            found.append(interpreter.get_tensor(result["index"]))
        return np.concatenate(found)

    return Outcome(predict, *_parameter_bits(given.network, widths.kernel, LITERT_BIAS_BITS[widths.activation]))


def of_qkeras(given: Given, widths: UniformWidths) -> Outcome:
    """Return the network with QKeras' own quantizers in the places of po2quant's, as QKeras' examples use them.

    Kernels and biases are ``quantized_bits(bits, 0, alpha='auto_po2')``, activations ``quantized_bits(bits, integer)``
    with as many integer bits as their largest value among the calibrating inputs needs.
    """
    network = given.network
    config = network.uniform(widths, "qkeras")
    model = network.quantize(config)
    for weight in weight_quantizers(model):
        bits = (config.kernel_bits if weight.part == "kernel" else config.bias_bits)(weight.layer.name)
        (place,) = (name for name in WEIGHT_QUANTIZERS if getattr(weight.layer, name, None) is weight.quantizer)
        setattr(weight.layer, place, qkeras.quantized_bits(bits, 0, 1, alpha=AUTO_PO2))
    for node, values in walk(model, given.inputs):
        if isinstance(node.layer, qkeras.QActivation):
            signed = node.layer.activation.signed
            integer = math.ceil(math.log2(float(np.max(np.abs(values[0])))))
            bits = config.activation_bits(node.layer.name)
            node.layer.activation = qkeras.quantized_bits(bits, integer, int(signed), keep_negative=signed)

    def predict(x: np.ndarray) -> np.ndarray:
        return model.predict(x, batch_size=BATCH, verbose=0)

    return Outcome(predict, *_parameter_bits(network, widths.kernel, FLAT_BIAS_BITS))


def of_hgq2(given: Given, widths: UniformWidths) -> Outcome:
    """Return the network that HGQ2 trains from the float weights, with at most the kernel bits of ``widths`` in all.

    It has the epochs, batches and rates of po2quant's recipe, and a width for every weight and activation.
    """
    train, validation = require_training_data(given.dataset)
    test = given.dataset.test.inputs()
    settings = {
        "epochs": given.recipe.epochs,
        "batch_size": given.recipe.batch_size,
        "rate": given.recipe.learning_rate(0),
        "kernel_bits": widths.kernel,
        "seed": given.seed,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given.network.model.save(folder / "network.keras")
        (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        splits = {"x": train, "validation_x": validation}
        inputs = {part: split.without_augmentation().inputs() for part, split in splits.items()}
        np.savez(folder / "data.npz", y=train.y, validation_y=validation.y, test_x=test, **inputs)  # type: ignore[arg-type]
        HGQ2.run(Path(__file__).with_name("train_hgq2.py"), folder)
        with np.load(folder / "outcome.npz") as found:
            outputs, kernel_bits, bias_bits = found["outputs"], int(found["kernel_bits"]), int(found["bias_bits"])

    def predict(x: np.ndarray) -> np.ndarray:
        if not np.array_equal(x, test):
            raise ValueError(f"predictions of HGQ2 must be of the test inputs. Received: shape {x.shape}")
        return outputs

    return Outcome(predict, kernel_bits, bias_bits)


def _parameter_bits(network: FoldedNetwork, kernel_bits: int, bias_bits: int) -> tuple[int, int]:
    layers = [layer for layer in network.layers if layer.kind == WEIGHTS]
    return (
        kernel_bits * sum(layer.kernel_parameters for layer in layers),
        bias_bits * sum(layer.bias_parameters for layer in layers),
    )


PEERS = {
    f"{peer.name.lower()}-{peer.widths}": peer
    for peer in (
        Peer("LiteRT", "w8a8", REAL, CALIBRATED, of_litert),
        Peer("LiteRT", "w8a16-io16", REAL, CALIBRATED, of_litert),
        Peer("QKeras", "w8a8", POWERS_OF_TWO, CALIBRATED, of_qkeras),
        Peer("QKeras", "w4a8", POWERS_OF_TWO, CALIBRATED, of_qkeras),
        Peer("QKeras", "w4a4", POWERS_OF_TWO, CALIBRATED, of_qkeras),
        Peer("HGQ2", "w4a8", POWERS_OF_TWO, TRAINED, of_hgq2),
    )
}
"""The peers by name."""
