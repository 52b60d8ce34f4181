"""Packages that are called as the function of their name: ``po2quant.search(...)`` beside ``po2quant.search.run``."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

API = "po2quant.api"


class _CallablePackage(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the function of :data:`API` that has the package's name."""
        return getattr(importlib.import_module(API), self.__name__.rpartition(".")[2])(*arguments, **options)


def make_callable(package: str) -> None:
    """Let a package be called; importing a package would otherwise hide the function of its name."""
    sys.modules[package].__class__ = _CallablePackage
