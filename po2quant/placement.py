"""What a network says about the places of its quantizers; the rules are in :mod:`po2quant.network.placement`."""

from __future__ import annotations

import dataclasses

from po2quant.targets import GENERIC, Target


@dataclasses.dataclass(frozen=True)
class Placement:
    """What the rules of quantizer placement leave open.

    Args:
        signed_input: whether the model input has negative values; an unsigned one keeps a level more.
        requantize_shortcuts: rule 5 of :mod:`po2quant.network.placement`.
        target: what the network shall be computed by.
    """

    signed_input: bool = True
    requantize_shortcuts: bool = False
    target: Target = GENERIC
