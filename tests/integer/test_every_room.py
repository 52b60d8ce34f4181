"""Every room knows every operation, and refuses by name what it does not know."""

from __future__ import annotations

import numpy as np
import pytest
from programs import X, every_operation, exercise, program_of, tensor, weights
from refusals import complaint

from po2quant.export.c.operations import CALLS
from po2quant.export.c.source import memory_bytes, write_c
from po2quant.export.cores.instructions import WORK
from po2quant.export.litert.to_litert import OPERATORS
from po2quant.export.onnx.graph import NODES
from po2quant.integer import program as program_module
from po2quant.integer.operations import OPERATIONS, Conv2D, Dense, Operation, Recurrent


class Unknown(Operation):
    """An operation of which no room has heard."""


class LikeDense(Dense):
    """One that may compute something else."""


def test_a_program_of_an_unknown_operation_is_refused():
    for operation in (Unknown("new", ("x",), "y"), LikeDense("new", ("x",), "y", weights(4, 4), weights(4))):
        message = complaint(program_of, operation, tensor("x", 4), tensor("y", 4))
        assert "'new'" in message and type(operation).__name__ in message


def test_every_room_refuses_an_operation_that_it_does_not_know(tmp_path, monkeypatch):
    """By its name; none says "proved", nothing, or zero."""
    unknown, x, y = Unknown("new", ("x",), "y"), tensor("x", 4), tensor("y", 4)
    rooms = [
        lambda: unknown.output_shape(((4,),)),
        lambda: unknown.plan((X,), X),
        lambda: unknown.compute([np.zeros((1, 4), int)], None, (X,)),
        lambda: unknown.counts(y),
        *(lambda handlers=handlers: handlers.of(unknown) for handlers in (CALLS, WORK, NODES, OPERATORS)),
    ]
    monkeypatch.setattr(program_module, "OPERATIONS", (*OPERATIONS, Unknown))
    monkeypatch.setattr(Unknown, "check", lambda self, inputs, output: None)
    program = program_of(unknown, x, y)
    rooms += [lambda: program.plans, lambda: memory_bytes(program), lambda: write_c(program, tmp_path, "net")]
    for room in rooms:
        message = complaint(room)
        assert "'new'" in message and "Unknown" in message


@pytest.mark.parametrize("handlers", [CALLS, WORK, NODES, OPERATORS], ids=lambda handlers: handlers.room)
def test_every_writer_knows_every_operation(handlers):
    """Those of exchange files unroll what is recurrent; instructions of recurrent operations are not counted."""
    unrolled = set() if handlers is CALLS else {Recurrent}
    assert set(handlers.functions) | unrolled == set(OPERATIONS)


def test_an_operation_is_planned_once(tmp_path, monkeypatch):
    """By all rooms together; what settles constant channels makes another program."""
    planned = []
    plan = Conv2D.plan
    monkeypatch.setattr(Conv2D, "plan", lambda self, *formats: planned.append(self.name) or plan(self, *formats))
    exercise(every_operation(), tmp_path)
    assert planned[0] == "conv" and len(planned) <= 1 + len(("onnx", "qonnx", "litert"))


def test_every_operation_answers_every_room(tmp_path):
    """Its shape, plan, integers and cost, and all forms of it."""
    program = every_operation()
    for operation in program.operations:
        inputs = program.inputs_of(operation)
        arrays = [np.zeros((1, *x.shape), int) for x in inputs]
        assert operation.compute(arrays, program.plan(operation), program.formats_of(operation)).size
        assert program.counts(operation) >= (0, 0, 0) and len(program.shape_of(operation)) >= 1
    exercise(program, tmp_path)
    assert len(list(tmp_path.iterdir())) == 9
