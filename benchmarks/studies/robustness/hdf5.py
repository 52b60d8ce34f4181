"""Wrong HDF5 files made of right ones, and the zip files of Keras that hold them."""

from __future__ import annotations

import io
import random

import h5py
import numpy as np

from benchmarks.studies.robustness.archives import mutated_zip
from benchmarks.studies.robustness.text import mutated_bytes, mutated_json
from benchmarks.studies.robustness.values import TEXTS, WHOLE

HUGE, MOST_VALUES = (40_000, 40_000), 10**6
"""The shape of an array that takes gigabytes, and the values of one that is read to be changed."""

_SPECIAL = (np.nan, np.inf, -np.inf, 2.0**120, 1e-45, 2.0**-140, -1.0, 0.0, 0.3, 1e38)


def mutated_hdf5(rng: random.Random, content: bytes) -> bytes:
    """Change an array, a group, a link or an attribute of an HDF5 file."""
    file = io.BytesIO(content)
    with h5py.File(file, "r+") as root:
        items: list[str] = []
        root.visit(items.append)
        arrays = [name for name in items if isinstance(root[name], h5py.Dataset)]
        if rng.random() < 0.2:
            _change_attribute(rng, root, rng.choice(["/", *items]))
        elif rng.random() < 0.15:
            _change_tree(rng, root, rng.choice(items))
        else:
            _change_array(rng, root, rng.choice(arrays))
    return file.getvalue()


def _change_array(rng: random.Random, root: h5py.File, name: str) -> None:
    if (root[name].size or 0) > MOST_VALUES:
        raise ValueError("an array that is huge already")
    array = root[name][()]
    del root[name]
    shape = np.shape(array)
    match rng.choice(
        ("special", "special", "fill", "shape", "type", "empty", "group", "huge", "text", "object", "outside")
    ):
        case "special":
            changed = np.array(array)
            value = rng.choice(_SPECIAL if changed.dtype.kind == "f" else (0, 1, 2, 99, 127))
            if changed.size:
                changed.flat[rng.randrange(changed.size)] = value
            root[name] = changed
        case "fill":
            kind = np.asarray(array).dtype
            root[name] = np.full(shape, rng.choice(_SPECIAL), kind if kind.kind == "f" else np.float32)
        case "shape":
            root[name] = np.zeros(rng.choice(((), (0,), (1,), (*shape, 1), shape[::-1], (2, 3, 4, 5))), np.float32)
        case "type":
            kind = rng.choice(("f8", "f2", "c8", "i8", "u1", "?", "S4"))
            root[name] = np.zeros(shape, kind)
        case "empty":
            root[name] = h5py.Empty("f4")
        case "group":
            root.create_group(name)
        case "huge":
            shape = rng.choice((HUGE, (2**20, 2**20), (4_000_000_000,)))
            root.create_dataset(name, shape, "f4", chunks=tuple(min(size, 1000) for size in shape), compression="gzip")
        case "text":
            root[name] = rng.choice(TEXTS).replace("\x00", "0")
        case "object":
            root.create_dataset(name, (3,), h5py.vlen_dtype(np.int32))
        case "outside":
            root.create_dataset(name, shape or (1,), "f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def _change_tree(rng: random.Random, root: h5py.File, name: str) -> None:
    match rng.choice(("drop", "soft", "external", "rename", "copy", "loop")):
        case "drop":
            del root[name]
        case "soft":
            del root[name]
            root[name] = h5py.SoftLink(rng.choice(("/nowhere", "/", name)))
        case "external":
            del root[name]
            root[name] = h5py.ExternalLink("other.h5", "/")
        case "rename":
            root.move(name, rng.choice(("moved", "a/b/c", "x" * 3000, "optimizer/vars/0")))
        case "copy":
            root.copy(root[name], root, "copied")
        case "loop" if isinstance(root[name], h5py.Group):
            root[f"{name}/again"] = root[name]


def _change_attribute(rng: random.Random, root: h5py.File, name: str) -> None:
    attributes = root[name].attrs
    key = rng.choice([*attributes, "name", "layer_names", "weight_names"])
    text = [item.replace("\x00", "0") for item in TEXTS]
    match rng.choice(("text", "number", "list", "drop", "empty", "array")):
        case "text":
            attributes[key] = rng.choice(text)
        case "number":
            attributes[key] = rng.choice([number for number in WHOLE if abs(number) < 2**63])
        case "list":
            attributes[key] = [item[:50] for item in rng.sample(text, 3)]
        case "drop" if key in attributes:
            del attributes[key]
        case "empty":
            attributes[key] = h5py.Empty("f4")
        case _:
            attributes[key] = np.zeros((2, 2), rng.choice(("f4", "c8", "?")))


def mutated_keras(rng: random.Random, content: bytes) -> bytes:
    """Change what a ``.keras`` file holds."""

    def inner(rng: random.Random, name: str, data: bytes) -> bytes:
        if name.endswith(".h5") and rng.random() < 0.8:
            return mutated_hdf5(rng, data)
        return mutated_json(rng, data) if name.endswith(".json") and rng.random() < 0.8 else mutated_bytes(rng, data)

    return mutated_zip(rng, content, inner)
