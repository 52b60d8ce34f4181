"""A run folder explains itself: what was asked for, on what machine, what came out."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from po2quant.files import one_line, read_json, write_json
from po2quant.log import LOG, SHOWN, kept_in
from po2quant.runs.lock import FolderLock, check_free
from po2quant.runs.names import ENVIRONMENT_FILE, LOCK_FILE, REQUEST_FILE, RUN_LOG
from po2quant.runs.request import CONTENT, RunRequest, read_request

THREAD_VARIABLES = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
"""Without them there is a thread for each core; another number of threads sums in another order."""

PACKAGES = ("po2quant", "tensorflow", "keras", "qkeras-v3", "keras-tuner", "numpy")
PARTIAL = "partial-"
"""What files are called while they are written."""


class RunFolder:
    """The folder of one run, new or resumed, in which no other process works meanwhile.

    A folder that holds only what a process leaves that is killed before it has begun counts as empty.

    Args:
        path: the folder; made if absent.
        asked: what the run was asked for; kept in ``config.json``.
        resume: go on with the run that the folder holds. Without it, a folder that holds a run is refused.

    Raises:
        ValueError: where the folder holds a run and ``resume`` is false, or a run with other arguments, or another
            process works in it.

    Example:
        >>> import tempfile
        >>> from po2quant.runs.request import NetworkRequest
        >>> with RunFolder(Path(tempfile.mkdtemp()), NetworkRequest(config="flat8")) as run:
        ...     run.write_environment(seed=0)
    """

    def __init__(self, path: Path, asked: RunRequest | Mapping[str, Any], resume: bool = False) -> None:
        self.path = path
        check_usable(path, asked, resume)
        path.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(path)
        self._open = contextlib.ExitStack()
        self._open.callback(lock.release)
        try:
            check_same(path, asked)
            write_json(path / REQUEST_FILE, _as_json(asked))
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> RunFolder:
        """Keep what is said from now on in ``run.log``, and return the folder itself."""
        self._open.enter_context(kept_in(self.path / RUN_LOG))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, place: Any) -> None:
        """Let other processes work in the folder."""
        if error is not None:
            LOG.debug("stopped by %s", kind.__name__ if kind else "", exc_info=error, extra=SHOWN)
        self._open.close()

    def write_environment(self, **facts: Any) -> None:
        """Write ``env.json``: versions, commit, machine and ``facts`` such as seed and data."""
        versions: dict[str, str | None] = {}
        for package in PACKAGES:
            try:
                versions[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                versions[package] = None
        write_json(
            self.path / ENVIRONMENT_FILE,
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


def check_usable(path: Path, asked: RunRequest | Mapping[str, Any], resume: bool = False) -> None:
    """Raise ValueError where a run could neither begin nor go on in a folder, which is left as it is.

    Args:
        path: the folder, or where one would be made.
        asked: what the run is asked for.
        resume: whether a run that the folder holds may go on.
    """
    check_writable(path)
    check_free(path)
    if (path / REQUEST_FILE).exists():
        if not resume:
            raise ValueError(
                f"output_dir must be new, or the run that it holds be resumed. Received: {path}, which holds a run"
            )
        check_same(path, asked)
    elif path.exists() and not all(_is_left_over(entry) for entry in path.iterdir()):
        raise ValueError(f"output_dir must be new or empty. Received: {path}, which is not empty and holds no run")


def check_same(path: Path, asked: RunRequest | Mapping[str, Any]) -> None:
    """Raise ValueError where a folder holds a run that was asked for something else."""
    if not (path / REQUEST_FILE).exists():
        return
    if isinstance(asked, RunRequest):
        old, may_change = read_request(path).to_dict(), asked.may_change() | asked.left_open()
    else:
        old, may_change = read_json(path / REQUEST_FILE, CONTENT), frozenset({"max_trials"})
    changed = [
        f"{key} was {one_line(repr(old.get(key)))} and is {one_line(repr(value))}"
        for key, value in _as_json(asked).items()
        if key not in may_change and old.get(key) != value
    ]
    if changed:
        raise ValueError(f"{path} holds another run: {'; '.join(changed)}")


def _as_json(asked: RunRequest | Mapping[str, Any]) -> dict[str, Any]:
    return asked.to_dict() if isinstance(asked, RunRequest) else json.loads(json.dumps(asked, default=str))


def check_writable(path: Path) -> None:
    """Raise ValueError where a folder is not, and cannot be made, or has a name that no text file can hold."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"a path must be text that UTF-8 can encode. Received: {str(path)!r}") from None
    if path.exists() and not path.is_dir():
        raise ValueError(f"output_dir must be a folder. Received a file: {path}")
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"files need a folder where they can be written. Received: {path}; {existing} is none")


def _is_left_over(entry: Path) -> bool:
    return entry.name == LOCK_FILE or entry.name.startswith(PARTIAL)


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
