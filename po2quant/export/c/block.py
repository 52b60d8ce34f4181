"""The statements of operations that run one after the other, and the memory of their tensors."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from po2quant.export.c.arena import Buffer, plan_arena
from po2quant.export.c.types import tensor_dtype
from po2quant.integer.operations import Block, Operation, Reshape, Tensor

if TYPE_CHECKING:
    from po2quant.export.c.operations import Calls


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
        self.arena = plan_arena(self._buffers({self.storage[name] for name in kept}))

    def _buffers(self, kept: Collection[str]) -> list[Buffer]:
        """Return tensors from the step that writes them to the last that reads them, and scratch memory."""
        block, steps = self._block, list(enumerate(self._block.operations))
        last_read = {self.storage[x]: step for step, operation in steps for x in operation.inputs}
        last_read |= dict.fromkeys(kept, len(steps))
        written = [(name, 0) for name in block.inputs] + [(operation.output, step) for step, operation in steps]
        buffers = [
            Buffer(self._identifiers[name], _size_bytes(block.tensor[name]), step, max(step, last_read.get(name, step)))
            for name, step in written
            if self.storage[name] == name and name not in self._held
        ]
        needed = [(step, operation, self._calls.scratch_bytes(operation)) for step, operation in steps]
        return buffers + [
            Buffer(self._scratch_name(operation), size_bytes, step, step)
            for step, operation, size_bytes in needed
            if size_bytes
        ]

    def _scratch_name(self, operation: Operation) -> str:
        return f"{self._identifiers[operation.output]}_scratch"

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


def storage_of(block: Block) -> dict[str, str]:
    """Return the tensor in whose memory each tensor lies: its own, or of a Reshape, that of the input."""
    storage = {name: name for name in block.inputs}
    for operation in block.operations:
        name = operation.output
        storage[name] = storage[operation.inputs[0]] if isinstance(operation, Reshape) else name
    return storage


def _size_bytes(tensor: Tensor) -> int:
    return tensor.size * tensor_dtype(tensor).itemsize
