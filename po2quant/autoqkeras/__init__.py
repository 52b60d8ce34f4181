"""``AutoQKeras`` for Keras 3: a client of :mod:`po2quant.search` that reads QKeras' arguments and dictionaries."""

from po2quant.autoqkeras.autoqkeras import AutoQKeras

__all__ = ["AutoQKeras"]
