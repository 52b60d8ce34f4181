"""What became of an input: refused in one sentence, accepted, or one of the ways that must not be."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.studies.robustness.cases import Case, InputClass
from benchmarks.studies.robustness.values import CANARY, MODULE
from po2quant.cli.errors import LONGEST_SENTENCE, sentence

REFUSED, ACCEPTED = "refused", "accepted"
TRACEBACK, OVER_BUDGET, EXECUTED = "traceback", "over_budget", "executed"
VERDICTS = (REFUSED, ACCEPTED, TRACEBACK, OVER_BUDGET, EXECUTED)
MEMORY_BYTES = 2**30
"""Memory above what the process holds before that an input may take."""

LIMIT_BYTES = 6 * 2**30
"""Address space that a process may take after its start, so that a machine survives what is wrong."""

NOT_A_SENTENCE = ("unexpected ", "a file is damaged: ")
_EVENTS = {"os.system", "os.exec", "os.posix_spawn"}
_COMMANDS = (("posix", "system"), ("nt", "system"), ("os", "system"))
_seen: list[str] = []


@dataclasses.dataclass(frozen=True)
class Finding:
    """What became of one input.

    Args:
        verdict: one of :data:`VERDICTS`.
        text: the sentence or reason.
        seconds: processor time.
        memory_bytes: peak of memory above what the process held before.
    """

    verdict: str
    text: str
    seconds: float = 0.0
    memory_bytes: int = 0


def watch_execution() -> None:
    """From now on, notice what is run, unpickled by name, or imported from an input."""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        is_import = event == "import" and arguments[0] == MODULE
        is_write = event == "open" and str(arguments[0]).endswith(f"/{CANARY}") and "w" in str(arguments[1])
        is_pickled = event == "pickle.find_class" and arguments in _COMMANDS
        if event in _EVENTS or is_import or is_write or is_pickled:
            _seen.append(f"{event} {arguments}")

    sys.addaudithook(hook)


@contextlib.contextmanager
def limited_memory(more_bytes: int = LIMIT_BYTES) -> Iterator[None]:
    """Let the process take so much address space more; what asks for more gets a MemoryError."""
    now = resource.getrlimit(resource.RLIMIT_AS)
    size = _memory("VmSize") or 2**40
    resource.setrlimit(resource.RLIMIT_AS, (size + more_bytes, now[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, now)


def judge(kind: InputClass, case: Case) -> Finding:
    """Give an input to its reader and return what became of it."""
    with _folder_of(case) as folder:
        words = tuple(word.replace("{folder}", str(folder)) for word in case.words)
        _seen.clear()
        before, start = _memory("VmHWM"), time.process_time()
        resident = _memory("VmRSS")
        verdict, text = _outcome(case, folder, words)
        seconds, peak = time.process_time() - start, _memory("VmHWM")
        taken = max(peak - resident, 0) if peak > before else 0
        if taken > MEMORY_BYTES // 4:
            _forget_peak()
        is_executed = _seen or (folder / CANARY).exists() or Path(CANARY).exists()
    if is_executed:
        importlib.invalidate_caches()
        sys.modules.pop(MODULE, None)
        return Finding(EXECUTED, "; ".join(_seen) or text, seconds, taken)
    if taken > MEMORY_BYTES or seconds > kind.seconds:
        text = f"{taken // 2**20} MiB, {seconds:.1f} s: {text}"
        verdict = OVER_BUDGET
    return Finding(verdict, text, seconds, taken)


@contextlib.contextmanager
def _folder_of(case: Case) -> Iterator[Path]:
    """Write the files of a case into a folder of their own, and stand in it."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="case-") as name:
        folder = Path(name)
        for file, content in case.files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(here)


def _outcome(case: Case, folder: Path, words: tuple[str, ...]) -> tuple[str, str]:
    try:
        case.reader(folder, words)
    except Exception as error:
        return verdict_of(error, words)
    return ACCEPTED, ""


def verdict_of(error: BaseException, words: tuple[str, ...] = ()) -> tuple[str, str]:
    """Return whether an exception is a refusal, and its sentence."""
    text = sentence(error, words)
    if _has(error, MemoryError):
        return OVER_BUDGET, text
    is_sentence = text.isprintable() and 0 < len(text) <= LONGEST_SENTENCE and not text.startswith(NOT_A_SENTENCE)
    return (REFUSED if is_sentence else TRACEBACK), text


def _has(error: BaseException | None, kind: type) -> bool:
    """Return whether an exception, or one that it came from, is of a kind."""
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False


def _memory(field: str) -> int:
    """Return a number of bytes that Linux keeps about this process; 0 on other systems."""
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))
    except (OSError, StopIteration):
        return 0


def _forget_peak() -> None:
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")
