"""Configurations of a few widths, by name: ``flat8``, ``w4a8``, ``w4a4-io16``."""

from __future__ import annotations

import dataclasses
import re

from po2quant.files import one_line

FLAT_BITS, UNIFORM_BITS, IO_BITS = range(4, 17), range(2, 17), 8
"""Widths that names such as ``flat8`` and ``w4a8`` take, and that of input and output of a ``w4a8``."""
CONFIG_HELP = "float, mpq, flat4 to flat16, w2a2 to w16a16 such as w4a8 or w4a4-io16, a file, or RUN:trial of a search"
LONGEST_SHOWN = 80
"""Characters of a name that an error shows."""


@dataclasses.dataclass(frozen=True)
class UniformWidths:
    """One width for all kernels, one for all activations, and one for the network's inputs and outputs.

    Args:
        kernel: width of kernels.
        activation: width of activations.
        io: width of the activations at the network's inputs and outputs.
    """

    kernel: int
    activation: int
    io: int


def uniform_widths(name: str) -> UniformWidths | None:
    """Return the widths that a name stands for, None for another name.

    ``flat4`` is the study's flat configuration: the network's inputs and outputs have 4 bits as well. ``w4a8`` is the
    field's: kernels of 4 bits, activations of 8, inputs and outputs of 8 too, or of 16 in ``w4a8-io16``. Biases have 31
    bits in both.

    Raises:
        ValueError: for a width outside 4 to 16, or outside 2 to 16 where the name begins with ``w``.

    Example:
        >>> uniform_widths("w4a4"), uniform_widths("mpq")
        (UniformWidths(kernel=4, activation=4, io=8), None)
    """
    if flat := re.fullmatch(r"flat([1-9][0-9]*)", name):
        written, valid = flat.groups() * 3, FLAT_BITS
    elif parts := re.fullmatch(r"w([1-9][0-9]*)a([1-9][0-9]*)(?:-io([1-9][0-9]*))?", name):
        written, valid = parts.groups(default=str(IO_BITS)), UNIFORM_BITS
    else:
        return None
    if any(len(bits) > 2 or int(bits) not in valid for bits in written):
        raise ValueError(f"config must be {CONFIG_HELP}. Received: {one_line(repr(name), LONGEST_SHOWN)}")
    return UniformWidths(*map(int, written))
