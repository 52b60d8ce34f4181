"""Runs an integer program with numpy's integers: the reference for every other form of it.

Sums of products go through float64 matrix products where the plan proves that every partial sum, in any order, is an
integer that float64 holds (54 bits, sign included); elsewhere through int64. Both are exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from po2quant.integer.checks import shown
from po2quant.integer.program import SOFTMAX, Program

Arrays = np.ndarray | Sequence[np.ndarray]


def quantize_inputs(program: Program, x: Arrays) -> list[np.ndarray]:
    """Return the integers of a program's inputs.

    Args:
        program: the program.
        x: values as the model takes them, ``(samples, ...)``, one array for each input.

    Raises:
        ValueError: for another number of arrays, or values that are no numbers.
    """
    return [program.tensor[name].format.to_int(array) for name, array in _by_input(program, x)]


def run(program: Program, integers: Arrays) -> dict[str, np.ndarray]:
    """Run a program on integers.

    Args:
        program: the program.
        integers: ``(samples, ...)``, one array for each input, as :func:`quantize_inputs` makes them.

    Returns:
        Every tensor by name, ``(samples, *shape)``, int64; those of cells in all steps, ``(samples, steps, *shape)``.

    Raises:
        ValueError: for another number of arrays, another shape, or integers outside the input's format.

    Example:
        >>> tensors = run(program, quantize_inputs(program, x))  # doctest: +SKIP
    """
    tensors = {name: _checked(program, name, np.asarray(array)) for name, array in _by_input(program, integers)}
    return program.computed(tensors)


def results(program: Program, tensors: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return the model's outputs as values, the host's part (softmax) included.

    Args:
        program: the program.
        tensors: what :func:`run` returned.
    """
    values = []
    for output in program.outputs:
        value = program.tensor[output.tensor].format.to_float(tensors[output.tensor])
        if output.host_function == SOFTMAX:
            powers = np.exp(value - value.max(axis=-1, keepdims=True))
            value = powers / powers.sum(axis=-1, keepdims=True)
        values.append(value)
    return values


def _by_input(program: Program, arrays: Arrays) -> Iterator[tuple[str, np.ndarray]]:
    listed: list[Any] = [*arrays] if isinstance(arrays, (list, tuple)) else [arrays]
    if len(listed) != len(program.inputs):
        raise ValueError(f"a program of {len(program.inputs)} inputs needs as many arrays. Received: {len(listed)}")
    return zip(program.inputs, listed, strict=True)


def _checked(program: Program, name: str, array: np.ndarray) -> np.ndarray:
    tensor = program.tensor[name]
    if array.dtype.kind not in "iu" or array.shape[1:] != tensor.shape:
        raise ValueError(
            f"input {shown(name)} must be integers of shape (samples, {', '.join(map(str, tensor.shape))}). "
            f"Received: {array.dtype.name} {array.shape}"
        )
    low, high = tensor.format.min_int, tensor.format.max_int
    if array.min(initial=0) < low or array.max(initial=0) > high:
        raise ValueError(f"input {shown(name)} must be in [{low}, {high}]. Received: {array.min()} to {array.max()}")
    return array.astype(np.int64)
