"""An input is some files and words; a class of inputs knows right ones, how they go wrong, and who reads them."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.studies.robustness.archives import mutated_npz, mutated_pickle, mutated_tar, mutated_zip
from benchmarks.studies.robustness.hdf5 import mutated_hdf5, mutated_keras
from benchmarks.studies.robustness.sounds import mutated_flac, mutated_jpeg, mutated_wav
from benchmarks.studies.robustness.text import (
    Mutator,
    mutated_bytes,
    mutated_call,
    mutated_csv,
    mutated_json,
    mutated_words,
)

PARSER_SECONDS, COMMAND_SECONDS = 2.0, 60.0
"""Processor time that a parser or writer of tiny inputs, and a command, may take."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One input.

    Args:
        reader: who reads it.
        files: their contents by name; ``/`` parts folders.
        words: a command line, in which ``{folder}`` stands for the folder of the files.
        changing: names of the files that mutations change; all by default.
    """

    reader: Callable[[Path, tuple[str, ...]], None]
    files: Mapping[str, bytes]
    words: tuple[str, ...] = ()
    changing: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class InputClass:
    """A class of inputs.

    Args:
        name: its row in the results.
        cases: makes the right inputs; called once a process.
        seconds: processor time that one of them may take.
        words_change: whether mutations change the words rather than the files.
        batch: inputs that one process reads before the next one begins, for those that leave memory behind.
        warm_ups: right inputs that a process reads first, so that what they need is imported and compiled.
    """

    name: str
    cases: Callable[[], Sequence[Case]]
    seconds: float = PARSER_SECONDS
    words_change: bool = False
    batch: int = 20_000
    warm_ups: int = 100

    def mutated(self, cases: Sequence[Case], seed: int, number: int) -> Case:
        """Return the wrong input of a number, always the same."""
        rng = random.Random(f"{seed}/{self.name}/{number}")
        case = rng.choice(cases)
        changes = rng.choice((1, 1, 1, 2, 3))
        if self.words_change:
            words = case.words
            for _ in range(changes):
                words = mutated_words(rng, words) if words else words
            return dataclasses.replace(case, words=words)
        files = dict(case.files)
        for _ in range(changes):
            name = rng.choice(case.changing or list(files))
            try:
                files[name] = mutated_file(rng, name, files[name])
            except Exception:  # what is wrong already cannot be changed by its rules
                files[name] = mutated_bytes(rng, files[name])
        return dataclasses.replace(case, files=files)


def mutated_file(rng: random.Random, name: str, content: bytes) -> bytes:
    """Return a file's content with a change: one that its kind suggests, or of its bytes."""
    for suffix, mutator in MUTATORS.items():
        if name.endswith(suffix):
            return mutator(rng, content) if rng.random() < 0.8 else mutated_bytes(rng, content)
    return mutated_bytes(rng, content)


MUTATORS: dict[str, Mutator] = {
    ".json": mutated_json,
    ".csv": mutated_csv,
    "quantizer.txt": mutated_call,
    ".npz": mutated_npz,
    ".h5": mutated_hdf5,
    ".keras": mutated_keras,
    ".zip": lambda rng, content: mutated_zip(rng, content, mutated_file),
    ".tar.gz": lambda rng, content: mutated_tar(rng, content, mutated_file),
    ".wav": mutated_wav,
    ".flac": mutated_flac,
    ".jpg": mutated_jpeg,
    "_batch": mutated_pickle,
    **{f"data_batch_{number}": mutated_pickle for number in range(1, 6)},
}
