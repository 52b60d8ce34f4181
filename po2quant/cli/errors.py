"""What the command line says about an exception: one sentence."""

from __future__ import annotations

import lzma
import os
import sys
import traceback
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from po2quant.files import LONGEST_SHOWN, one_line

TRACEBACK_VARIABLE = "PO2QUANT_TRACEBACK"
LONGEST_SENTENCE = 1000
PACKAGE = Path(__file__).parents[1]
DAMAGE = (EOFError, UnicodeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
"""What Python raises for a file that is cut or changed, without its name."""

OPTIONS = ("config", "data_dir", "format", "oracle", "output_dir")
"""Arguments of the library that are options here."""
UNNAMED = "standard output, or a file at "


def sentence(error: BaseException, words: Sequence[str]) -> str:
    """Return what is wrong in one line.

    Args:
        error: what was raised.
        words: the command line; long ones that the error repeats are cut.
    """
    text = _usage(error, words) if hasattr(error, "format_message") else _explanation(error)
    for word in words:
        if len(word) > LONGEST_SHOWN:
            for form in (word, repr(word)[1:-1]):
                text = text.replace(form, one_line(word))
    return one_line(text, LONGEST_SENTENCE)


def _usage(error: Any, words: Sequence[str]) -> str:
    """Return what Click says about a wrong option, and what it leaves out: the value, and where to look."""
    text, context = error.format_message().rstrip("."), getattr(error, "ctx", None)
    value = _value_of(getattr(error, "param", None), words)
    if value is not None and repr(value) not in text.partition(": ")[2]:
        text += f". Received: {value!r}"
    return f"{text}; see {context.command_path} --help" if context else text


def _explanation(error: BaseException) -> str:
    name, text = type(error).__name__, str(error)
    if isinstance(error, OSError) and error.strerror:
        files = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
        return f"{error.strerror}: {' -> '.join(map(one_line, files)) or UNNAMED + _place(error)}"
    if isinstance(error, MemoryError):
        return f"there is not enough memory{': ' * bool(text)}{text}"
    if isinstance(error, DAMAGE):
        return f"a file is damaged: {text or name}, found by {_place(error)}"
    is_sentence = isinstance(error, OSError | ValueError | RuntimeError) and not isinstance(error, RecursionError)
    if is_sentence and text:
        first, space, rest = text.partition(" ")
        return f"--{first.replace('_', '-')}{space}{rest}" if first in OPTIONS else text
    return f"unexpected {name} in {_place(error)}: {text or 'no reason given'}; {TRACEBACK_VARIABLE}=1 shows where"


def _place(error: BaseException) -> str:
    """Return the innermost line of this package, or else of another, that an exception went through."""
    frames = list(traceback.extract_tb(error.__traceback__))
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(PACKAGE)]
    if not frames:
        return "an unknown place"
    frame = (own or frames)[-1]
    path = Path(frame.filename)
    return f"{path.relative_to(PACKAGE.parent) if own else path.name}:{frame.lineno}"


def _value_of(parameter: Any, words: Sequence[str]) -> str | None:
    """Return what a command line gives an option; where it does so twice, the last counts."""
    options = getattr(parameter, "opts", ())
    for word, following in reversed([*zip(words, [*words[1:], ""], strict=True)]):
        option, equals, value = word.partition("=")
        if option in options:
            return value if equals else following
    return None


def drop_unwritten() -> None:
    """Forget what standard output still holds where it cannot be written, lest Python complain of it at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
