"""One process works in a run folder at a time."""

from __future__ import annotations

import datetime
import json
import os
import shlex
import socket
import sys
from pathlib import Path
from typing import IO

from po2quant.runs.names import LOCK_FILE

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LONGEST_HOLDER = 4096
"""Bytes of a lock file that are read."""


class FolderLock:
    """The right to work in a folder, kept until :meth:`release` or the end of the process, however it ends.

    The lock is the operating system's, on a file in the folder that says who holds it. Where there is none (Windows,
    some network file systems), nobody is kept out.

    Args:
        folder: an existing folder.

    Raises:
        ValueError: where another process holds it, saying which.
    """

    def __init__(self, folder: Path) -> None:
        self._file: IO[str] | None = None
        if fcntl is None:
            return
        file = open(folder / LOCK_FILE, "a+", encoding="utf-8", errors="replace")  # noqa: SIM115  closed by release
        if _is_locked(file, folder):
            file.truncate(0)
            json.dump(_this_process(), file)
            file.flush()
            self._file = file

    def release(self) -> None:
        """Let others work in the folder."""
        if self._file is not None:
            self._file.close()
            self._file = None


def check_free(folder: Path) -> None:
    """Raise ValueError where another process works in a folder, which is left as it is."""
    if fcntl is not None and (folder / LOCK_FILE).is_file():
        with open(folder / LOCK_FILE, encoding="utf-8", errors="replace") as file:
            _is_locked(file, folder)


def _is_locked(file: IO[str], folder: Path) -> bool:
    """Lock a file if its file system can, and return whether; close it where that fails."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(file)
        file.close()
        raise ValueError(f"{folder} is being worked on by {holder}: wait until that has ended") from None
    except OSError:
        file.close()
        return False
    return True


def _this_process() -> dict[str, str | int]:
    since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "command": shlex.join(sys.argv)}


def _holder(file: IO[str]) -> str:
    """Return who says in a lock file that it works there."""
    file.seek(0)
    try:
        facts = json.loads(file.read(LONGEST_HOLDER))
        pid, host, since, command = (facts[name] for name in ("pid", "host", "since", "command"))
    except (ValueError, KeyError, TypeError, RecursionError):
        return "another process"
    return f"process {pid} on {host} since {since} ({command})"
