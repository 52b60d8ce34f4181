"""What a network costs at some widths: functions of one shape, ``cost(widths) -> float``, a row of :data:`COSTS` each.

``docs/costs.md`` explains each with its unit. A cost is asked for thousands of widths in a search, so each operation
remembers what it costs at the widths that it has been asked for.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from po2quant.cost import LayerShape
from po2quant.export.c.arena import plan_arena
from po2quant.export.c.block import buffers_of
from po2quant.export.c.footprint import constant_bytes, scratch_bytes
from po2quant.export.c.functions import Functions
from po2quant.export.c.types import tensor_dtype
from po2quant.export.cores.code import Use, code_bytes, code_of, shared, use_of
from po2quant.export.cores.instructions import instructions, work_of
from po2quant.integer.operations import Operation, Weighted
from po2quant.integer.program import Program
from po2quant.integer.widths import WidthTemplate
from po2quant.runs.costs import BITS, BOPS, ENERGY, FLASH, INSTRUCTIONS, RAM, CostName
from po2quant.search.energy import BOARD_ENERGY, EnergyModel
from po2quant.search.problem import Cost, SizeCost, Values
from po2quant.search.space import widths_of

T = TypeVar("T")
OfOne = Callable[[Program, Operation], T]
"""Given the program of one operation at its widths, and the operation, returns what is asked of it."""


@dataclasses.dataclass(frozen=True)
class CostedNetwork:
    """A network whose costs are asked for.

    Args:
        layers: the network as the bit accounting sees it.
        template: its integer program, which other widths are derived from; None: its size in bits alone can be told.
        packed: whether weights lie in their own number of bits in the C.
    """

    layers: Sequence[LayerShape]
    template: WidthTemplate | None = None
    packed: bool = False

    def cost(self, name: CostName) -> Cost:
        """Return a cost of the network as a function of its widths.

        Raises:
            ValueError: where it needs the integer program, and there is none.
        """
        if name.kind != BITS and self.template is None:
            raise ValueError(f"cost {name} must be of a network with an integer program. Received: none")
        return COSTS[name.kind](self, name.target)

    @property
    def known_template(self) -> WidthTemplate:
        """The template, which a cost of operations needs."""
        if self.template is None:
            raise ValueError("costs of operations must be of a network with an integer program. Received: none")
        return self.template


class OfOperations(Generic[T]):
    """What is asked of each operation of a program, which depends on its own widths alone.

    Args:
        template: the program.
        of_one: what is asked.
    """

    def __init__(self, template: WidthTemplate, of_one: OfOne[T]) -> None:
        self._template, self._of_one = template, of_one
        self._slots = [template.slots(operation) for operation in template.program.operations]
        self._known: list[dict[tuple[int | None, ...], T]] = [{} for _ in self._slots]

    def of_each(self, widths: Mapping[str, int]) -> list[T]:
        """Return what is asked of each operation, given the width of each slot."""
        return [self._of(index, widths) for index in range(len(self._slots))]

    def _of(self, index: int, widths: Mapping[str, int]) -> T:
        key, known = tuple(map(widths.get, self._slots[index])), self._known[index]
        if key not in known:
            program = self._template.alone(self._template.program.operations[index], widths)
            known[key] = self._of_one(program, program.operations[0])
        return known[key]


class OperationCost(OfOperations[float]):
    """A cost that is a sum over the operations of a program."""

    def __call__(self, values: Values) -> float:
        """Return the cost of a network of these widths."""
        return sum(self.of_each(widths_of(values)))


def flash(network: CostedNetwork, target: str = "") -> Cost:
    """Return the bytes of constants in C on a core of 32 bits, packed or not; given a core, with its code."""
    template = network.known_template
    constants = OperationCost(template, functools.partial(constant_bytes, pack=network.packed))
    if not target:
        return constants
    needed = OfOperations(template, functools.partial(use_of, pack=network.packed, functions=Functions()))

    def cost(values: Values) -> float:
        return constants(values) + code_bytes(target, code_of(needed.of_each(widths_of(values))))

    return cost


def ram(network: CostedNetwork, target: str = "") -> Cost:
    """Return the bytes of the arena that the C plans for tensors and scratch memory."""
    template = network.known_template
    program, scratch = template.program, OperationCost(template, functools.partial(scratch_bytes, pack=network.packed))
    held = {*program.inputs, *(output.tensor for output in program.outputs)}

    @functools.cache
    def planned(sizes_bytes: tuple[int, ...], scratch_sizes: tuple[float, ...]) -> int:
        by_name = {tensor.name: size for tensor, size in zip(program.tensors, sizes_bytes, strict=True)}
        return plan_arena(buffers_of(program, by_name, list(map(int, scratch_sizes)), held)).size_bytes

    def cost(values: Values) -> float:
        widths = widths_of(values)
        sizes = (
            tensor.size * tensor_dtype(template.tensor(tensor.name, widths)).itemsize for tensor in program.tensors
        )
        return planned(tuple(sizes), tuple(scratch.of_each(widths)))

    return cost


def bops(network: CostedNetwork, target: str = "") -> Cost:
    """Return the bit operations of all products: MACs times bits of the weight times bits of the input."""

    def of_one(program: Program, operation: Operation) -> float:
        if not isinstance(operation, Weighted):
            return 0.0
        (x,) = program.formats_of(operation)
        return float(program.counts(operation).macs * operation.kernel.bit_width * x.bit_width)

    return OperationCost(network.known_template, of_one)


def energy(network: CostedNetwork, target: str = "") -> Cost:
    """Return picojoules of one inference: of arithmetic and memory at 45 nm, or as measured on a board."""
    if target:
        return OperationCost(network.known_template, BOARD_ENERGY[target])
    return OperationCost(network.known_template, EnergyModel())


def core_instructions(network: CostedNetwork, target: str) -> Cost:
    """Return about how many instructions one inference takes on a core."""

    functions = Functions()

    def of_one(program: Program, operation: Operation) -> tuple[Use, float, float]:
        own, more = (
            instructions(target, work_of(program, operation, network.packed, is_shared)) for is_shared in (False, True)
        )
        return use_of(program, operation, network.packed, functions), own, more

    each = OfOperations(network.known_template, of_one)

    def cost(values: Values) -> float:
        uses, own, more = zip(*each.of_each(widths_of(values)), strict=True)
        return sum(map(operator.getitem, zip(own, more, strict=True), shared(uses)))

    return cost


def bits(network: CostedNetwork, target: str = "") -> Cost:
    """Return the published study's size: all weights and all activations, each in its own bits."""
    return SizeCost(network.layers)


COSTS: dict[str, Callable[[CostedNetwork, str], Cost]] = {
    BITS: bits,
    FLASH: flash,
    RAM: ram,
    BOPS: bops,
    ENERGY: energy,
    INSTRUCTIONS: core_instructions,
}
