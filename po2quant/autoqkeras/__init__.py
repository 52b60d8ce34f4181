"""``AutoQKeras`` for Keras 3: a client of :mod:`po2quant.search` that reads QKeras' arguments and dictionaries."""

from po2quant.autoqkeras.autoqkeras import AutoQKeras
from po2quant.autoqkeras.scheduler import AutoQKerasScheduler

__all__ = ["AutoQKeras", "AutoQKerasScheduler"]
