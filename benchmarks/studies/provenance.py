"""What stands beside every measured number: the command that made it, and the versions of what computed it."""

from __future__ import annotations

import importlib.metadata
import shlex
import sys
from collections.abc import Iterable, Sequence


def command_line(module: str, arguments: Sequence[str] | None) -> str:
    """Return the command that runs ``python -m module``; without arguments, with those of this process."""
    return shlex.join(["python", "-m", module, *(sys.argv[1:] if arguments is None else arguments)])


def versions(packages: Iterable[str]) -> str:
    """Return ``name=version`` of each package."""
    return " ".join(f"{package}={importlib.metadata.version(package)}" for package in packages)
