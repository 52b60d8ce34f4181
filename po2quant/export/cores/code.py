"""About how many bytes of code the C of a program has on a core, without compiling it.

Equation:
    bytes = sum over functions f of once_f + copies_f * copy_f, plus sum over operations o of call_o. A function is a
    kernel of ``export/c/kernels`` for some types. The compiler gives each operation that calls it a copy with its sizes
    inside, but one to all of them where they are more than :data:`MOST_COPIES`.

The rates are rows of ``code.csv``, fitted by ``python -m benchmarks.studies.instructions --code`` to random programs
that were compiled at -O3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from po2quant.export.c.functions import Functions
from po2quant.export.c.operations import Calls
from po2quant.export.cores.rates import CODE_FILE, Parts, priced
from po2quant.integer import operations as ops

MOST_COPIES = 8
"""Values of a parameter that gcc follows (its ``ipa-cp-value-list-size``); with more, callers share a function."""

SHAPED = ("convolution", "pixels", "depthwise")
"""Kernels whose loops are faster where the compiler knows their sizes."""


class Use(NamedTuple):
    """What an operation needs of the code.

    Args:
        kind: of the operation; empty where there is nothing to do.
        functions: kernels and the names that they have for some types.
    """

    kind: str
    functions: frozenset[tuple[str, str]]


class _CallsAlone(Calls):
    """Calls without the constants that they read."""

    def write_array(self, *_: Any) -> None:
        """Write nothing."""


def use_of(program: ops.Block, operation: ops.Operation, pack: bool, functions: Functions) -> Use:
    """Return what an operation needs.

    Args:
        program: that it belongs to.
        operation: the operation.
        pack: whether weights lie in their own number of bits.
        functions: those of the network, which have one name for the same types in all its operations.
    """
    calls = _CallsAlone(program, dict.fromkeys(program.tensor, "t"), pack)
    calls.functions, functions.asked = functions, set()
    statement = calls.call(operation, "scratch" if calls.scratch_bytes(operation) else "")
    return Use(type(operation).__name__ if statement else "", frozenset(functions.asked))


def shared(uses: Sequence[Use]) -> list[bool]:
    """Return of each operation of a program whether so many call its function that none has a copy."""
    called = Counter(function for use in uses for function in use.functions)
    return [any(called[f] > MOST_COPIES for f in use.functions if f[0] in SHAPED) for use in uses]


def code_of(uses: Iterable[Use]) -> Parts:
    """Return the parts of the code of operations: functions, copies of them, and calls."""
    uses = list(uses)
    code = Counter(f"call {use.kind}" for use in uses if use.kind)
    called = Counter(function for use in uses for function in use.functions)
    for (kernel, _), callers in called.items():
        code[f"function {kernel}"] += 1
        code[f"copy {kernel}"] += callers if callers <= MOST_COPIES else 1
    return code


def code_of_program(program: ops.Block, pack: bool = False) -> Parts:
    """Return the parts of the code of a whole program."""
    functions = Functions()
    return code_of(use_of(program, operation, pack, functions) for operation in program.operations)


def code_bytes(core: str, code: Parts) -> float:
    """Return about how many bytes some code has on a core.

    Raises:
        ValueError: for a core without rates.
    """
    return priced(core, code, CODE_FILE)
