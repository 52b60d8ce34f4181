"""A run folder explains itself: what was asked for, on what machine, what came out."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from po2quant.files import read_json, write_json

THREAD_VARIABLES = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
"""Without them there is a thread for each core; another number of threads sums in another order."""

PACKAGES = ("po2quant", "tensorflow", "keras", "qkeras-v3", "keras-tuner", "numpy")
MAY_CHANGE_ON_RESUME = {"epochs": "finetune", "max_trials": "search"}
"""Arguments that may grow, and the command for which they do; an AutoQKeras search names no command."""


class RunFolder:
    """The folder of one run, new or resumed.

    Args:
        path: the folder; made if absent.
        arguments: what the run was asked for; kept in ``config.json``.
        resume: go on with the run that the folder holds. Without it, a folder that holds a run is refused.

    Raises:
        ValueError: where the folder holds a run and ``resume`` is false, or a run with other arguments.
    """

    def __init__(self, path: Path, arguments: Mapping[str, Any], resume: bool = False) -> None:
        self.path = path
        arguments = json.loads(json.dumps(arguments, default=str))
        config = path / "config.json"
        if path.exists() and not path.is_dir():
            raise ValueError(f"--output-dir must be a folder. Received a file: {path}")
        if config.exists():
            if not resume:
                raise ValueError(
                    f"{path} already holds a run: add --resume to go on with it, or choose another --output-dir"
                )
            self._check_same(read_json(config, "what a run was asked for"), arguments)
        elif path.exists() and any(path.iterdir()):
            raise ValueError(f"{path} is not empty and holds no run: choose another --output-dir")
        path.mkdir(parents=True, exist_ok=True)
        write_json(config, arguments)

    def _check_same(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        changed = [
            f"{key} was {old.get(key)!r} and is {new.get(key)!r}"
            for key in new
            if MAY_CHANGE_ON_RESUME.get(key) != new.get("command", "search") and old.get(key) != new.get(key)
        ]
        if changed:
            raise ValueError(f"{self.path} holds another run: {'; '.join(changed)}")

    def write_environment(self, **facts: Any) -> None:
        """Write ``env.json``: versions, commit, machine and ``facts`` such as seed and data."""
        versions = {}
        for package in PACKAGES:
            try:
                versions[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                versions[package] = None
        write_json(
            self.path / "env.json",
            {
                "versions": versions,
                "python": platform.python_version(),
                "platform": platform.platform(),
                "cores": os.cpu_count(),
                "threads": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
                "commit": project_commit(),
                "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                **facts,
            },
        )


def project_commit() -> str | None:
    """Return the commit of the checkout that this package runs from, None outside one."""
    try:
        result = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
