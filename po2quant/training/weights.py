"""Read weight files without running anything that they contain.

Known forms: Keras 3 ``.weights.h5`` and the one inside ``.keras``, and the ``.h5`` of Keras 2 (MLPerf
Tiny's reference networks). Only arrays are read; a model description inside is ignored.
"""

from __future__ import annotations

import contextlib
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import keras
import numpy as np

from po2quant.runs.names import BEST_WEIGHTS

FORMS = "a Keras .weights.h5, .keras or .h5 file, or a run folder"


def is_quantized_checkpoint(path: Path) -> bool:
    """Return whether a file holds a quantized network's state rather than float weights."""
    with _open_weights(path) as file:
        found = []
        file.visit(lambda name: found.append(name) if name.endswith("/bit_width") else None)
        return bool(found)


def load_weights(model: keras.Model, path: Path) -> None:
    """Load a weight file into a model of the same architecture.

    Args:
        model: float or quantized model.
        path: the file, or a run folder, which stands for its best weights.

    Raises:
        ValueError: where the file is missing, damaged, of another network, or holds NaN or infinity.
    """
    with _open_weights(path) as file:
        if "layer_names" in _legacy_root(file).attrs:
            _load_legacy(model, _legacy_root(file), path)
        else:
            _load_keras3(model, file.filename, path)
    for variable in model.weights:
        if variable.dtype.startswith("float") and not np.all(np.isfinite(variable.numpy())):
            raise ValueError(f"weights must be finite numbers. Received: NaN or infinity in {variable.path} of {path}")


@contextlib.contextmanager
def _open_weights(path: Path) -> Iterator[h5py.File]:
    path = Path(path)
    if path.is_dir():
        path = path / BEST_WEIGHTS
    if not path.is_file():
        raise ValueError(f"--weights must be {FORMS}. There is no file {path}")
    with contextlib.ExitStack() as stack:
        if zipfile.is_zipfile(path):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            inner = Path(folder) / "model.weights.h5"
            try:
                with zipfile.ZipFile(path) as archive:
                    inner.write_bytes(archive.read(inner.name))
            except (KeyError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
                raise ValueError(f"--weights must be {FORMS}. {path} is damaged or something else: {error}") from None
            source = inner
        else:
            source = path
        try:
            file = stack.enter_context(h5py.File(source, "r"))
        except OSError:
            raise ValueError(f"--weights must be {FORMS}. {path} is damaged or something else") from None
        yield file


def _legacy_root(file: h5py.File) -> h5py.Group:
    return file.get("model_weights", file)


def _load_keras3(model: keras.Model, filename: str, path: Path) -> None:
    try:
        model.load_weights(filename)
    except (ValueError, KeyError, OSError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise ValueError(f"{path} does not fit model {model.name!r}: {first_line}") from None


def _load_legacy(model: keras.Model, root: h5py.Group, path: Path) -> None:
    stored = {}
    try:
        for name in map(_text, root.attrs["layer_names"]):
            arrays = [np.asarray(root[name][_text(weight)]) for weight in root[name].attrs["weight_names"]]
            if arrays:
                stored[name] = arrays
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    if set(layers) != set(stored):
        raise ValueError(
            f"{path} does not fit model {model.name!r}: "
            f"the model's layers {_names(set(layers) - set(stored))} are not in it, "
            f"its layers {_names(set(stored) - set(layers))} are not in the model"
        )
    for name, arrays in stored.items():
        expected = [tuple(weight.shape) for weight in layers[name].weights]
        if expected != [array.shape for array in arrays]:
            raise ValueError(
                f"{path} does not fit model {model.name!r}: layer {name!r} has shapes "
                f"{[array.shape for array in arrays]}, the model's has {expected}"
            )
    for name, arrays in stored.items():
        layers[name].set_weights(arrays)


def _names(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "(none)"


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
