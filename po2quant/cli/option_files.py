"""Options of a command in a file, so that a run can be kept with a project."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from po2quant.files import one_line, read_json

SUFFIXES = {".json", ".yaml", ".yml"}
LARGEST_BYTES = 2**16
CONTENT = "options of a command"


def read_options(path: Path, names: Mapping[str, str]) -> dict[str, Any]:
    """Return what a file gives to the options of a command, as the command line would have it.

    Args:
        path: a JSON object or a YAML mapping from names of options, ``max-trials`` or ``max_trials``, to a text, a
            number, true, false or a list of these.
        names: what each option is called within the command, by its name with underscores.

    Raises:
        ValueError: for another file, an unknown option or another value, naming it.
    """
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        raise ValueError(f"--options must be a .json, .yaml or .yml file. Received: {path}")
    values = read_json(path, CONTENT) if path.suffix.lower() == ".json" else _read_yaml(path)
    given = {}
    for name, value in values.items():
        option = str(name).replace("-", "_")
        if option not in names:
            valid = ", ".join(sorted(names)).replace("_", "-")
            raise ValueError(f"{path}: an option must be one of {valid}. Received: {one_line(str(name))!r}")
        given[names[option]] = _as_on_a_command_line(path, name, value)
    return {name: value for name, value in given.items() if value is not None}


def _read_yaml(path: Path) -> dict[Any, Any]:
    import yaml

    if path.stat().st_size > LARGEST_BYTES:
        raise ValueError(f"{path} must have at most {LARGEST_BYTES} bytes. Received: {path.stat().st_size}")
    try:
        values = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} must be YAML. Received: {one_line(' '.join(str(error).split()))}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} must be a mapping of options. Received: {type(values).__name__}")
    return values


def _as_on_a_command_line(path: Path, name: Any, value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    parts = value if isinstance(value, list) and value else [value]
    if not all(isinstance(part, str | int | float) and not isinstance(part, bool) for part in parts):
        raise ValueError(
            f"{path}: {one_line(str(name))} must be a text, a number, true, false or a list of texts or numbers. "
            f"Received: {type(value).__name__}"
        )
    return ",".join(map(str, parts))
