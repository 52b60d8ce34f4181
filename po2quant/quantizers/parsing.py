"""Quantizers from strings and dictionaries; nothing is evaluated."""

from __future__ import annotations

import ast
import inspect
import itertools
from collections.abc import Callable
from typing import Any

import keras

from po2quant.files import LONGEST_SHOWN, one_line
from po2quant.quantizers.base import Quantizer
from po2quant.quantizers.featuremap import quantized_bits_featuremap
from po2quant.quantizers.weights import quantized_bits

LONGEST_CALL = 2000
"""Characters of a quantizer's text, at most."""
DEEPEST_CALL = 8
"""Brackets in each other, at most: for more, Python's parser may take time and memory exponential in their number."""
QUANTIZERS: dict[str, type[Quantizer]] = {
    "quantized_bits": quantized_bits,
    "quantized_bits_featuremap": quantized_bits_featuremap,
}


def parse_quantizer_call(text: str) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """Split ``"name(1, 2, alpha='auto')"`` into name, positional and keyword arguments.

    Arguments must be literals: numbers, strings, booleans, None, lists.

    Raises:
        ValueError: where the text is not such a call.
    """
    explanation = f"a quantizer must read like quantized_bits(8,8,1,1,alpha='auto_po2'). Received: {_shown(text)}"
    if len(text) > LONGEST_CALL:
        raise ValueError(f"{explanation}, of more than {LONGEST_CALL} characters")
    if max(itertools.accumulate((mark in "([{") - (mark in ")]}") for mark in text), default=0) > DEEPEST_CALL:
        raise ValueError(f"{explanation}, with brackets more than {DEEPEST_CALL} deep")
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if isinstance(call, ast.Name):
            return call.id, (), {}
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError(explanation)
        arguments = tuple(ast.literal_eval(argument) for argument in call.args)
        keywords = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, TypeError, ValueError, MemoryError, RecursionError):
        raise ValueError(explanation) from None
    if any(keyword.arg is None for keyword in call.keywords):
        raise ValueError(explanation)
    return call.func.id, arguments, keywords


def get_quantizer(identifier: str | dict | Callable | None) -> Quantizer | Callable | None:
    """Return the quantizer that a string, a configuration or a callable names.

    Args:
        identifier: None, a callable, a dictionary from ``keras.saving.serialize_keras_object``, or a
            string as QKeras prints it, e.g.
            ``"quantized_bits_featuremap(8,8,1,1,alpha='auto_po2',scale_axis=0)"``.

    Returns:
        A new quantizer, or ``identifier`` itself where it is None or callable.

    Raises:
        ValueError: for an unknown name or malformed text.
    """
    if identifier is None or callable(identifier):
        return identifier
    if isinstance(identifier, dict):
        return keras.saving.deserialize_keras_object(identifier)
    if not isinstance(identifier, str):
        raise ValueError(f"a quantizer must be a string, a dictionary or a callable. Received: {identifier!r}")
    name, arguments, keywords = parse_quantizer_call(identifier)
    if name not in QUANTIZERS:
        raise ValueError(f"quantizer must be one of {', '.join(QUANTIZERS)}. Received: {_shown(name)}")
    known = [name for name in inspect.signature(QUANTIZERS[name]).parameters if name != "kwargs"]
    if unknown := [keyword for keyword in keywords if keyword not in known]:
        raise ValueError(f"arguments of {name} must be among {', '.join(known)}. Received: {_shown(unknown[0])}")
    try:
        return QUANTIZERS[name](*arguments, **keywords)
    except TypeError as error:
        raise ValueError(f"{_shown(identifier)} has arguments that {name} does not take: {one_line(error)}") from None


def _shown(text: str) -> str:
    shown = repr(text if len(text) <= LONGEST_CALL else f"{text[:LONGEST_CALL]}...{text[-LONGEST_CALL:]}")
    return shown if len(shown) <= LONGEST_SHOWN else one_line(shown)
