"""The statements of operations that run one after the other, and the memory of their tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from po2quant.export.c.arena import Buffer, plan_arena
from po2quant.export.c.types import tensor_dtype
from po2quant.integer.operations import Block, Operation, Reshape, Tensor

if TYPE_CHECKING:
    from po2quant.export.c.operations import Calls

SCRATCH = "/scratch"
"""What follows the name of an operation's output in that of its scratch memory."""


class BlockSource:
    """A program, or the cell of a recurrent operation, in C.

    Args:
        calls: writes the calls of the block.
        held: what stands in C for tensors that lie elsewhere, by name.
        memory: the first byte of what holds the others.
        kept: names of tensors that are needed until the last operation is done.

    Attributes:
        storage: the tensor in whose memory each tensor lies: its own, or of a Reshape, that of the input.
        arena: where each of the others lies.
    """

    def __init__(self, calls: Calls, held: Mapping[str, str], memory: str, kept: Collection[str] = ()) -> None:
        self._calls, self._block, self._identifiers = calls, calls.program, calls.identifiers
        self._held, self._memory = held, memory
        self.storage = storage_of(self._block)
        self.arena = plan_arena(self._buffers(kept))

    def _buffers(self, kept: Collection[str]) -> list[Buffer]:
        """Return tensors and scratch memory by their names in C."""
        block, names = self._block, self._identifiers
        sizes = {name: _size_bytes(tensor) for name, tensor in block.tensor.items()}
        scratch = [self._calls.scratch_bytes(operation) for operation in block.operations]
        buffers = buffers_of(block, sizes, scratch, self._held, kept)
        return [dataclasses.replace(buffer, name=_in_c(buffer.name, names)) for buffer in buffers]

    def _scratch_name(self, operation: Operation) -> str:
        return _in_c(f"{operation.output}{SCRATCH}", self._identifiers)

    def _in_arena(self, buffer: str, kind: str) -> str:
        return f"({kind} *)(void *)({self._memory} + {self.arena.offsets_bytes[buffer]})"

    def declaration(self, name: str) -> str:
        """Return the pointer to a tensor."""
        root, kind = self.storage[name], self._calls.type_of(name)
        const = "const " if root in self._held and root in self._block.inputs else ""
        if name != root:
            place = self._identifiers[root]
        else:
            place = self._held.get(root) or self._in_arena(self._identifiers[root], kind)
        return f"{const}{kind} *const {self._identifiers[name]} = {place};"

    def statements(self) -> list[str]:
        """Return the calls of all operations, and what traces every tensor."""
        lines = [self._trace(name) for name in self._block.inputs]
        for operation in self._block.operations:
            has_scratch = self._calls.scratch_bytes(operation) > 0
            scratch = self._in_arena(self._scratch_name(operation), "void") if has_scratch else ""
            if call := self._calls.call(operation, scratch):
                lines.append(call)
            lines += [self._trace(operation.output), f'LAYER_DONE("{self._identifiers[operation.output]}");']
        return lines

    def _trace(self, name: str) -> str:
        return f"TRACE({self._identifiers[name]}, {_size_bytes(self._block.tensor[name])});"


def buffers_of(
    block: Block,
    sizes_bytes: Mapping[str, int],
    scratch_bytes: Sequence[int],
    held: Collection[str],
    kept: Collection[str] = (),
) -> list[Buffer]:
    """Return the memory of a block: tensors from the step that writes them to the last that reads them, and scratch.

    Args:
        block: tensors and operations.
        sizes_bytes: of each tensor.
        scratch_bytes: what each operation needs beside its tensors.
        held: names of tensors that lie elsewhere.
        kept: names of tensors that are needed until the last operation is done.
    """
    storage, steps = storage_of(block), list(enumerate(block.operations))
    last_read = {storage[x]: step for step, operation in steps for x in operation.inputs}
    last_read |= dict.fromkeys((storage[name] for name in kept), len(steps))
    written = [(name, 0) for name in block.inputs] + [(operation.output, step) for step, operation in steps]
    tensors = [
        Buffer(name, sizes_bytes[name], step, max(step, last_read.get(name, step)))
        for name, step in written
        if storage[name] == name and name not in held
    ]
    return tensors + [
        Buffer(f"{operation.output}{SCRATCH}", size_bytes, step, step)
        for (step, operation), size_bytes in zip(steps, scratch_bytes, strict=True)
        if size_bytes
    ]


def _in_c(buffer: str, identifiers: Mapping[str, str]) -> str:
    tensor = buffer.removesuffix(SCRATCH)
    return f"{identifiers[tensor]}_scratch" if tensor != buffer else identifiers[tensor]


def storage_of(block: Block) -> dict[str, str]:
    """Return the tensor in whose memory each tensor lies: its own, or of a Reshape, that of the input."""
    storage = {name: name for name in block.inputs}
    for operation in block.operations:
        name = operation.output
        storage[name] = storage[operation.inputs[0]] if isinstance(operation, Reshape) else name
    return storage


def _size_bytes(tensor: Tensor) -> int:
    return tensor.size * tensor_dtype(tensor).itemsize
