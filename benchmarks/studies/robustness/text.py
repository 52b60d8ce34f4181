"""Wrong inputs made of right ones: bytes, text, JSON, tables and command lines."""

from __future__ import annotations

import copy
import csv
import io
import json
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.studies.robustness.values import TEXTS, WHOLE, any_value

Mutator = Callable[[random.Random, bytes], bytes]
DEEPEST = 20_000
"""Frames that JSON of the deepest input takes to be written."""


def flipped(rng: random.Random, content: bytes) -> bytes:
    """Change some bits."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8)) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncated(rng: random.Random, content: bytes) -> bytes:
    """Keep the beginning."""
    return content[: rng.randrange(len(content) + 1)]


def spliced(rng: random.Random, content: bytes) -> bytes:
    """Move a part of it elsewhere, over what is there or between."""
    start, to = rng.randrange(len(content) + 1), rng.randrange(len(content) + 1)
    part = content[start : start + rng.choice((1, 8, 64, 4096))]
    return content[:to] + part + content[to + rng.choice((0, len(part))) :]


def oversized(rng: random.Random, content: bytes) -> bytes:
    """Overwrite a field of 1 to 8 bytes, as sizes are, with an extreme one."""
    size = rng.choice((1, 2, 4, 8))
    field = rng.choice((b"\x00" * size, b"\xff" * size, b"\x7f" + b"\xff" * (size - 1), b"\xff" * (size - 1) + b"\x7f"))
    at = rng.randrange(max(len(content), 1))
    return content[:at] + field + content[at + size :]


def replaced(rng: random.Random, content: bytes) -> bytes:
    """Return something else altogether."""
    return rng.choice(
        (b"", b"\x00" * 100, b"\xff\xfe", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", content * 3, b"[" * 100_000)
    )


BYTES: tuple[Mutator, ...] = (flipped, truncated, spliced, oversized, replaced)


def mutated_bytes(rng: random.Random, content: bytes) -> bytes:
    """Change bytes, whatever they mean."""
    return rng.choice(BYTES)(rng, content)


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Give each item of nested lists and dictionaries: what holds it, and its key there."""
    boxes = [data]
    while boxes:
        box = boxes.pop()
        items = box.items() if isinstance(box, dict) else enumerate(box)
        for key, item in items:
            yield box, key
            if isinstance(item, dict | list):
                boxes.append(item)


def mutated_data(rng: random.Random, data: Any) -> Any:
    """Return JSON data with one item changed, left out, moved, repeated or renamed."""
    data = copy.deepcopy(data)
    places = list(_places(data)) if isinstance(data, dict | list) else []
    if not places:
        return any_value(rng)
    box, key = rng.choice(places)
    match rng.choice(("value", "value", "value", "near", "drop", "swap", "repeat", "rename")):
        case "value":
            box[key] = any_value(rng)
        case "near" if isinstance(box[key], int):
            box[key] = box[key] + rng.choice((-1, 1, 0.0, 0.5)) if rng.random() < 0.7 else -box[key]
        case "drop":
            del box[key]
        case "swap":
            other, name = rng.choice(places)
            box[key], other[name] = copy.deepcopy(other[name]), copy.deepcopy(box[key])
        case "repeat" if isinstance(box, list):
            box.extend([box[key]] * rng.choice((1, 100)))
        case _ if isinstance(box, dict):
            box[rng.choice((*TEXTS, f"{key} ", "class", "array"))] = box.pop(key)
        case _:
            box[key] = [box[key]]
    return data


def mutated_json(rng: random.Random, content: bytes) -> bytes:
    """Change the data that JSON text holds, or how the text says it."""
    text = json_text(mutated_data(rng, json.loads(content)))
    match rng.randrange(20):
        case 0:
            return b"\xef\xbb\xbf" + text
        case 1:
            return text.decode().encode("utf-16")
        case 2 if b'"' in text:
            key = text.split(b'"')[1]
            return text.replace(b"{", b'{"' + key + b'": 1, ', 1)
        case 3:
            return text.replace(rng.choice((b"1", b"0")), rng.choice((b"1e400", b"9" * 5000, b"01", b"0x1")), 1)
    return text


def json_text(data: Any) -> bytes:
    """Return data as JSON, however deep."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, DEEPEST))
    try:
        return json.dumps(data).encode()
    finally:
        sys.setrecursionlimit(limit)


def mutated_csv(rng: random.Random, content: bytes) -> bytes:
    """Change a cell, a row or a name of a column."""
    rows = [row for row in csv.reader(io.StringIO(content.decode(), newline="")) if row]
    row = rng.choice(rows)
    match rng.choice(("cell", "cell", "short", "long", "drop", "repeat", "order", "quote")):
        case "cell":
            row[rng.randrange(len(row))] = str(rng.choice((*TEXTS, *WHOLE, 0.5, "nan", "inf", "x" * 200_000)))
        case "short":
            row.pop()
        case "long":
            row.append("1")
        case "drop":
            rows.remove(row)
        case "repeat":
            rows.append(list(row))
        case "order":
            rng.shuffle(rows)
        case "quote":
            row[0] = f'"{row[0]}'
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode(errors="surrogateescape")


def mutated_words(rng: random.Random, words: tuple[str, ...]) -> tuple[str, ...]:
    """Change an option of a command line."""
    changed = list(words)
    at = rng.randrange(len(changed))
    value = str(rng.choice((*TEXTS, *WHOLE, 0.5, "nan", "1,2", "-", "--", "\udcff")))
    match rng.choice(("value", "value", "value", "drop", "repeat", "insert", "option")):
        case "value":
            changed[at] = value
        case "drop":
            del changed[at]
        case "repeat":
            changed.insert(at, changed[at])
        case "insert":
            changed.insert(at, value)
        case "option":
            changed += [f"--{rng.choice(('nope', 'x' * 3000, 'epochs', 'seed', 'config', 'output-dir'))}", value]
    return tuple(word for word in changed if "\x00" not in word)


def mutated_call(rng: random.Random, content: bytes) -> bytes:
    """Change an argument, a keyword or the name of a quantizer's text."""
    name, _, rest = content.decode().rstrip(")").partition("(")
    arguments = [argument.strip() for argument in rest.split(",")]
    at, value = rng.randrange(len(arguments)), repr(any_value(rng))
    keyword, equals, _ = arguments[at].partition("=")
    match rng.choice(("value", "value", "value", "expression", "keyword", "add", "drop", "name", "deep")):
        case "value":
            arguments[at] = f"{keyword}={value}" if equals else value
        case "expression":
            expression = rng.choice(
                ("-" * 5000 + "1", "9" * 100_000, "1e400", "2**2**30", "(" * 5000, "lambda: 1", "f'{1}'")
            )
            arguments[at] = f"{keyword}={expression}" if equals else expression
        case "keyword":
            arguments[at] = f"{rng.choice(('bits', 'alpha', 'nope', '**x', 'self'))}={value}"
        case "add":
            arguments += [value] * rng.choice((1, 10, 1000))
        case "drop":
            del arguments[at]
        case "name":
            name = rng.choice((*TEXTS, "a.b", "quantized_relu", "f()"))
        case "deep":
            return (f"{name}(" * 2000 + ")" * 2000).encode()
    return f"{name}({', '.join(arguments)})".encode(errors="replace")
