"""Mixed-precision, power-of-two quantization of Keras networks for edge devices.

The names that ``__init__.pyi`` lists are imported when they are used: ``import po2quant`` alone starts no TensorFlow.
It makes its quantizers and layers known to Keras as soon as Keras is there, so that ``keras.models.load_model`` finds
them.
"""

import importlib
import sys
from types import ModuleType

import lazy_loader
import wrapt

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def _register_classes(imported: ModuleType) -> None:
    """Import what registers itself with Keras; where qkeras imports Keras, after both."""
    if imported.__name__ == "qkeras" or "qkeras" not in sys.modules:
        importlib.import_module("po2quant.quantizers")
        importlib.import_module("po2quant.layers")


for _module in ("keras", "qkeras"):
    wrapt.register_post_import_hook(_register_classes, _module)
