"""Every class of inputs by name; what one needs is imported when it is asked for."""

from __future__ import annotations

import importlib

from benchmarks.studies.robustness.cases import InputClass

ROOMS = {
    "programs": ("program", "bit_config", "quantizer"),
    "networks": ("weights", "checkpoint"),
    "data": ("pictures", "keywords", "anomalies", "persons", "annotations"),
    "commands": ("run_folder", "command_files", "options"),
}
NAMES = tuple(name for names in ROOMS.values() for name in names)


def input_class(name: str) -> InputClass:
    """Return a class of inputs."""
    room = next(room for room, names in ROOMS.items() if name in names)
    classes = importlib.import_module(f"benchmarks.studies.robustness.{room}").CLASSES
    return next(kind for kind in classes if kind.name == name)
