"""The quantizers that a search may be asked for, as QKeras writes them: a width each, or the reason why not."""

from __future__ import annotations

import inspect
from typing import Any

from po2quant.fixed_point import check_bits
from po2quant.quantizers import get_quantizer, parse_quantizer_call
from po2quant.quantizers.parsing import QUANTIZERS

OF_FUNCTIONS = ("quantized_relu", "quantized_tanh", "quantized_sigmoid", "quantized_hswish", "quantized_linear")
"""Quantizers of QKeras of which only the width counts: the function stays that of the layer."""
TERNARY = ("ternary", "stochastic_ternary")
"""-1, 0 and 1 times a power of two: a symmetric width of 2 bits."""
LEFT_OUT = {
    "binary": "it has no 0, and the narrowest signed width of a program is 2 bits",
    "stochastic_binary": "it has no 0, and the narrowest signed width of a program is 2 bits",
    "bernoulli": "it draws its values, which no program does",
    "quantized_po2": "each value has an exponent of its own, where a program has one a channel or tensor",
    "quantized_relu_po2": "each value has an exponent of its own, where a program has one a channel or tensor",
    "quantized_ulaw": "its steps are not equal",
}
"""Quantizers that no integer program holds, and why: a search leaves them out."""
SEARCHABLE = (*QUANTIZERS, *OF_FUNCTIONS, *TERNARY)
MEANINGFUL_ARGUMENTS = ("bits", "integer", "symmetric", "keep_negative", "alpha", "scale_axis")
ANY_ALPHA, TERNARY_BITS = object(), 2
"""The alpha of quantizers that say no kind of scales."""


def canonical(text: str) -> str:
    """Return the same text for every way to write a quantizer: blanks and quotes do not count."""
    name, arguments, keywords = parse_quantizer_call(text)
    return f"{name}{arguments}{sorted(keywords.items())}"


def why_left_out(text: str) -> str:
    """Return why a quantizer is left out of a search, empty where it is not."""
    name, arguments, keywords = parse_quantizer_call(text)
    bits = dict(zip(("bits",), arguments, strict=False)).get("bits", keywords.get("bits"))
    if name == "quantized_bits" and bits == 1:
        return "1 bit has no sign and value both; the narrowest signed width of a program is 2 bits"
    return LEFT_OUT.get(name, "")


def bits_and_alpha(text: str) -> tuple[int, Any]:
    """Return the width of a quantizer and its alpha, :data:`ANY_ALPHA` where it is no text.

    Raises:
        ValueError: for a quantizer that no search takes.
    """
    name, arguments, keywords = parse_quantizer_call(text)
    if name not in SEARCHABLE:
        raise ValueError(
            f"a searched quantizer must be one of {', '.join((*SEARCHABLE, *LEFT_OUT))}, whose widths can change in "
            f"one compiled graph. Received: {text!r}"
        )
    if name in TERNARY:
        return TERNARY_BITS, ANY_ALPHA
    if name in OF_FUNCTIONS:
        bits = arguments[0] if arguments else keywords.get("bits", 8)
        return check_bits(bits), ANY_ALPHA
    quantizer: Any = get_quantizer(_without_number_of_alpha(text))
    parameters = inspect.signature(QUANTIZERS[name]).parameters
    given = inspect.signature(QUANTIZERS[name]).bind(*arguments, **keywords).arguments
    if any(key not in MEANINGFUL_ARGUMENTS and value != parameters[key].default for key, value in given.items()):
        raise ValueError(
            f"a searched quantizer must have no arguments but {', '.join(MEANINGFUL_ARGUMENTS)}. Received: {text!r}"
        )
    alpha = given.get("alpha")
    return quantizer.bits, alpha if isinstance(alpha, str) else ANY_ALPHA


def _without_number_of_alpha(text: str) -> str:
    name, arguments, keywords = parse_quantizer_call(text)
    kept = {key: value for key, value in keywords.items() if key != "alpha" or isinstance(value, str)}
    return f"{name}({', '.join([*map(repr, arguments), *(f'{key}={value!r}' for key, value in kept.items())])})"
