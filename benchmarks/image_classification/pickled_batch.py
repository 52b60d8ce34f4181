"""CIFAR-10 batches of the python version: pickles, read without running anything that they name."""

from __future__ import annotations

import io
import pickle
import pickletools

import numpy as np

from po2quant.files import one_line

_ARRAY_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}
_NUMBERING = ("PUT", "BINPUT", "LONG_BINPUT")
OPERATIONS = 2**18
"""What a pickle may do: a batch of 10 000 pictures takes some 60 000 operations."""
MEMO_NUMBERS = 2**20
"""What a pickle may number for later use. A batch of 10 000 pictures numbers some 20 000."""


class _Inert:
    """What a name in a pickle becomes: it keeps the arguments and the state that the pickle gives, and does nothing."""

    state: object = None

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments

    def __setstate__(self, state: object) -> None:
        self.state = state


class _InertUnpickler(pickle.Unpickler):
    """Builds numbers, text, bytes, lists and dictionaries, an ``_Inert`` for an array, and refuses all else."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) in _ARRAY_NAMES:
            return type(name, (_Inert,), {})
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes for Python 2
            return lambda text, encoding: text.encode("latin1")
        raise pickle.UnpicklingError(f"the name {module}.{name}, which no batch needs")


def _check_operations(content: bytes) -> None:
    """Refuse a pickle that makes more objects, or numbers them higher, than a batch needs: both take memory."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(content), 1):
        if count > OPERATIONS:
            raise pickle.UnpicklingError(f"more than {OPERATIONS:,} operations")
        if opcode.name in _NUMBERING and argument >= MEMO_NUMBERS:
            raise pickle.UnpicklingError(f"number {argument:,} in the memo, of at most {MEMO_NUMBERS:,}")


def read_pickle(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels, uint8 ``(samples, 3072)`` as red, green and blue planes, and classes, int32 ``(samples,)``.

    Args:
        content: the pickle of a dictionary with ``data``, a uint8 array, and ``labels``, a list.
        name: how the sentence of an error calls the batch.
    """
    try:
        _check_operations(content)
        fields = _InertUnpickler(io.BytesIO(content), encoding="bytes").load()
        fields = {key.decode() if isinstance(key, bytes) else key: value for key, value in fields.items()}
        return _pixels(fields["data"]), _classes(fields["labels"])
    except Exception as error:  # a damaged pickle may raise any
        reason = one_line(f"{type(error).__name__}: {error}")
        raise ValueError(
            f"{name} must be a complete pickle of data, uint8 (samples, 3072), and labels. Received: {reason}"
        ) from error


def _pixels(array: _Inert) -> np.ndarray:
    """Return the array that numpy's state tuple describes."""
    _, shape, dtype, is_fortran, content = array.state
    if dtype.arguments[0] not in ("u1", b"u1"):
        raise ValueError(f"data of type {dtype.arguments[0]!r}")
    return np.frombuffer(content, np.uint8).reshape(shape, order="F" if is_fortran else "C")


def _classes(labels: list[int]) -> np.ndarray:
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise ValueError("labels that are not a list of integers")
    return np.array(labels, np.int32)
