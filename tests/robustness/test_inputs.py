"""Hundreds of wrong inputs of every class: each is refused in one sentence or accepted, within its budget."""

from __future__ import annotations

import contextlib
import io
import random
import zipfile

import pytest
from selections import slow_but

from benchmarks.studies.robustness.archives import BOMB_BYTES, evil_pickle, gzip_bomb, zip_bomb
from benchmarks.studies.robustness.cases import Case, InputClass, mutated_file
from benchmarks.studies.robustness.classes import NAMES, input_class
from benchmarks.studies.robustness.judge import (
    ACCEPTED,
    EXECUTED,
    MEMORY_BYTES,
    OVER_BUDGET,
    REFUSED,
    TRACEBACK,
    _forget_peak,
    judge,
    limited_memory,
    watch_execution,
)
from benchmarks.studies.robustness.runner import Tally
from benchmarks.studies.robustness.values import CANARY

INPUTS = {
    "program": 300,
    "bit_config": 500,
    "quantizer": 500,
    "weights": 150,
    "checkpoint": 60,
    "pictures": 100,
    "keywords": 60,
    "anomalies": 40,
    "persons": 100,
    "annotations": 100,
    "options": 60,
}
SEED = 20_26
COMMANDS = {"run_folder", "command_files"}
"""Classes whose right inputs take a minute to make: they run in the study alone."""


@pytest.fixture(scope="module", autouse=True)
def watched():
    watch_execution()
    with limited_memory():
        yield


def test_every_class_is_read_here_or_left_to_the_study():
    assert set(INPUTS) | COMMANDS == set(NAMES)


@pytest.mark.parametrize("name", slow_but(("program", "weights"), INPUTS))
def test_wrong_inputs_are_refused_in_one_sentence_or_accepted(name):
    """The right ones are accepted, but for command lines, whose files are missing."""
    kind, tally, wrong = input_class(name), Tally(), []
    cases = kind.cases()
    for case in cases:
        judge(kind, case)  # what it needs is imported and compiled
        assert (found := judge(kind, case)).verdict == ACCEPTED or name == "options", found
    for number in range(INPUTS[name]):
        finding = judge(kind, kind.mutated(cases, SEED, number))
        tally.add(finding)
        if finding.verdict not in (REFUSED, ACCEPTED):
            wrong.append((number, finding))
    assert not wrong
    assert tally.counts[REFUSED] > INPUTS[name] / 4


def read_as(act):
    """Return what the judge says of a reader that does this with its folder."""
    kind = InputClass("one", list, seconds=0.5)
    return judge(kind, Case(lambda folder, words: act(folder), {"a.txt": b"a"}))


def raised(error):
    def act(folder):
        raise error

    return act


def test_the_judge_tells_a_refusal_from_a_traceback():
    assert read_as(lambda folder: None).verdict == ACCEPTED
    assert read_as(raised(ValueError("bits must be 8"))).verdict == REFUSED
    assert read_as(raised(FileNotFoundError(2, "No such file", "a.npz"))).verdict == REFUSED
    for error in (
        KeyError("a"),
        TypeError("b"),
        RecursionError("c"),
        ValueError(),
        EOFError(),
        zipfile.BadZipFile("d"),
    ):
        assert read_as(raised(error)).verdict == TRACEBACK


def test_the_judge_notices_what_is_run():
    assert read_as(lambda folder: (folder / CANARY).touch()).verdict == EXECUTED

    def unpickle(folder):
        import pickle

        pickle.loads(evil_pickle())

    assert read_as(unpickle).verdict == EXECUTED


@pytest.mark.slow
def test_the_judge_notices_time_and_memory():
    def slow(folder):
        sum(number * number for number in range(20_000_000))

    def large(folder):
        bytearray(b"x") * (MEMORY_BYTES + 2**28)

    def hidden(folder):
        try:
            raise MemoryError
        except MemoryError:
            raise ValueError("the file is too large") from None

    _forget_peak()  # of other tests in this process, which may be as high
    for act in (slow, large, hidden):
        assert read_as(act).verdict == OVER_BUDGET


def test_an_input_is_the_same_each_time():
    kind = input_class("bit_config")
    cases = kind.cases()
    once, again = ([kind.mutated(cases, 1, number).files for number in range(50)] for _ in range(2))
    assert once == again
    assert len({tuple(files.values()) for files in once}) > 40


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_what_no_rule_can_change_is_changed_as_bytes(suffix):
    rng = random.Random(0)
    for _ in range(50):
        with contextlib.suppress(ValueError, IndexError):
            mutated_file(rng, f"a{suffix}", b"\xff\x00{")


@pytest.mark.slow
def test_bombs_are_what_they_claim():
    with zipfile.ZipFile(io.BytesIO(zip_bomb("a", b"begin"))) as archive:
        assert archive.infolist()[0].file_size == BOMB_BYTES + 5
        with archive.open("a") as member:
            assert member.read(10) == b"begin" + bytes(5)
    assert len(gzip_bomb(b"begin")) < 2**25
