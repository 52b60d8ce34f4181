"""What an optional part of this package needs, which an installation may lack."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType


def check_installed(module: str, extra: str, purpose: str) -> None:
    """Raise ValueError, which says what to install, unless a module is there; it is not imported.

    Args:
        module: e.g. ``"onnx"``.
        extra: the extra of this package that brings it.
        purpose: what needs it, e.g. ``"format onnx"``.
    """
    if importlib.util.find_spec(module) is None:
        name = module.replace("_", "-")
        raise ValueError(f"{purpose} needs {name}: pip install 'po2quant[{extra}]'. Received: no {name}")


def optional_module(module: str, extra: str, purpose: str) -> ModuleType:
    """Import and return a module; arguments and errors are those of :func:`check_installed`.

    Example:
        >>> optional_module("math", "audio", "a square root").sqrt(4.0)
        2.0
    """
    check_installed(module.partition(".")[0], extra, purpose)
    return importlib.import_module(module)
