"""Whatever goes wrong on the command line ends in one sentence and an exit code."""

from __future__ import annotations

import lzma
import os
import subprocess
import sys
import zipfile
import zlib

import pytest
import typer

import po2quant.cli as command_line

PO2QUANT = [sys.executable, "-c", "from po2quant.cli import main; main()"]
ERRORS = {
    "a key": (KeyError("seed"), "unexpected KeyError in "),
    "a type": (TypeError("no iterable"), "unexpected TypeError in "),
    "an index": (IndexError(), "no reason given"),
    "a system call": (FileNotFoundError(2, "No such file or directory", "x.h5"), "No such file or directory: x.h5"),
    "a full disk of unknown file": (OSError(28, "No space left on device"), "No space left on device: "),
    "memory": (MemoryError("Unable to allocate 7 PiB"), "not enough memory: Unable to allocate 7 PiB"),
    "depth": (RecursionError("maximum recursion depth exceeded"), "unexpected RecursionError in "),
    "text": (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "a file is damaged: "),
    "a zip": (zipfile.BadZipFile("Bad CRC-32"), "a file is damaged: Bad CRC-32"),
    "a stream": (zlib.error("Error -3"), "a file is damaged: Error -3"),
    "an archive": (lzma.LZMAError("Corrupt input data"), "a file is damaged: Corrupt input data"),
    "an end": (EOFError(), "a file is damaged: EOFError"),
    "many lines": (ValueError("a\n\n  b\x00c"), r"a b\x00c"),
    "nothing to say": (ValueError(), "unexpected ValueError in "),
}


@pytest.fixture
def ended(monkeypatch, capsys):
    """Return a function that runs a command which raises an error, and returns its exit code and what it said."""

    def call(error: BaseException | None = None, *words: str) -> tuple[int, str]:
        def command(epochs: int = 0, text: str = "") -> None:
            if error is not None:
                raise error

        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        app.command()(command)
        monkeypatch.setattr(command_line, "app", app)
        monkeypatch.setattr(sys, "argv", ["po2quant", *(words or ["--epochs", "1"])])
        with pytest.raises(SystemExit) as stop:
            command_line.main()
        return stop.value.code, capsys.readouterr().err

    return call


@pytest.mark.parametrize("name", ERRORS)
def test_every_exception_is_one_sentence_and_exit_code_2(name, ended):
    error, expected = ERRORS[name]
    code, said = ended(error)
    assert code == 2 and said.startswith("error: ") and expected in said
    assert said.endswith("\n") and said.count("\n") == 1 and said[:-1].isprintable()


def test_an_unexpected_exception_says_how_to_see_its_traceback(ended, monkeypatch):
    assert "PO2QUANT_TRACEBACK=1 shows where" in ended(KeyError("seed"))[1]
    monkeypatch.setenv("PO2QUANT_TRACEBACK", "1")
    assert "Traceback (most recent call last)" in ended(KeyError("seed"))[1]


def test_an_interrupt_and_a_closed_pipe_say_nothing(ended):
    assert ended(KeyboardInterrupt()) == (130, "")
    assert ended(BrokenPipeError(32, "Broken pipe")) == (1, "")


def test_a_wrong_option_is_cut_and_named(ended):
    code, said = ended(None, "--epochs", "9" * 3000 + "x")
    assert (code, said.count("\n")) == (2, 1)
    assert "'--epochs'" in said and "Received: '999" in said and len(said) < 700
    assert "Received: 'x'; see po2quant --help" in ended(None, "--epochs=x")[1]


def test_a_value_of_3000_characters_does_not_hide_the_reason(ended):
    value = "v" * 3000 + "\x00"
    said = ended(ValueError(f"--text must be short. Received: {value!r}, which is long"), "--text", value)[1]
    assert said.startswith("error: --text must be short. Received: 'vvv") and said.endswith(", which is long\n")
    assert len(said) < 400


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_output_that_cannot_be_written_is_named():
    with open("/dev/full", "w") as full:
        result = subprocess.run([*PO2QUANT, "--help"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("error: No space left on device: standard output")
    assert result.stderr.count("\n") == 1
