"""Weight files and checkpoints of small networks, in the forms of Keras 2 and Keras 3."""

from __future__ import annotations

import functools
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import h5py
import keras
import numpy as np

from benchmarks.studies.robustness.cases import Case, InputClass
from po2quant.network import calibrate, flat_config, freeze_scales, quantize_model
from po2quant.weight_files import load_weights, read_weight_file

FLOAT, WHOLE, KERAS2, CHECKPOINT = "float.weights.h5", "model.keras", "keras2.h5", "best.weights.h5"


def _float_network() -> keras.Model:
    layers = [keras.layers.Conv2D(3, 3), keras.layers.BatchNormalization(), keras.layers.ReLU()]
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]
    return keras.Sequential([keras.Input((6, 5, 2)), *layers])


@functools.cache
def networks() -> tuple[keras.Model, keras.Model]:
    """Return a float network, and it quantized and frozen."""
    network = _float_network()
    quantized = quantize_model(network, flat_config(network, 8))
    calibrate(quantized, np.random.default_rng(0).normal(size=(4, 6, 5, 2)).astype(np.float32))
    freeze_scales(quantized)
    return network, quantized


def keras2_file(network: keras.Model) -> bytes:
    """Return the weights of a network as Keras 2 writes them."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [layer.name for layer in network.layers]
        for layer in network.layers:
            group = root.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = names
            for name, weight in zip(names, layer.weights, strict=True):
                group[name] = weight.numpy()
    return content.getvalue()


def saved_files(network: keras.Model) -> dict[str, bytes]:
    """Return a float network's weights in every form."""
    with tempfile.TemporaryDirectory() as folder:
        network.save_weights(Path(folder, FLOAT))
        network.save(Path(folder, WHOLE))
        files = {name: Path(folder, name).read_bytes() for name in (FLOAT, WHOLE)}
    return files | {KERAS2: keras2_file(network)}


def read_float(folder: Path, words: tuple[str, ...]) -> None:
    """Read a file of float weights, and give them to the network."""
    (file,) = folder.iterdir()
    read_weight_file(file)
    load_weights(networks()[0], file)


def read_checkpoint(folder: Path, words: tuple[str, ...]) -> None:
    """Read the checkpoint of a quantized network as every command does, and make its integer program."""
    from po2quant.deploy.from_keras import integer_program
    from po2quant.diagnostics.arrays import summarize

    file = folder / CHECKPOINT
    summarize(read_weight_file(file))
    load_weights(networks()[1], file)
    integer_program(networks()[1])


def _weights() -> Sequence[Case]:
    return [Case(read_float, {name: content}) for name, content in saved_files(networks()[0]).items()]


def _checkpoints() -> Sequence[Case]:
    with tempfile.TemporaryDirectory() as folder:
        networks()[1].save_weights(Path(folder, CHECKPOINT))
        return [Case(read_checkpoint, {CHECKPOINT: Path(folder, CHECKPOINT).read_bytes()})]


CLASSES = (InputClass("weights", _weights, batch=5000), InputClass("checkpoint", _checkpoints, batch=5000))
