"""Costs of a network: what they say beforehand is what the C has."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from po2quant.cost import LayerShape
from po2quant.export.c.functions import Functions
from po2quant.export.c.operations import CALLS, Calls
from po2quant.export.c.source import memory_bytes, write_c
from po2quant.export.cores.code import MOST_COPIES, code_of_program, shared, use_of
from po2quant.export.cores.emulator import CORES, code_bytes, compile_for, count
from po2quant.export.cores.instructions import COUNTED, instructions, work_of_program
from po2quant.export.cores.rates import CODE_FILE, rates
from po2quant.fixed_point import FixedPointFormat
from po2quant.integer import operations as ops
from po2quant.integer.operations import Tensor, Weights
from po2quant.integer.program import Output, Program
from po2quant.integer.widths import WidthTemplate
from po2quant.runs.costs import FOR, cost_name, max_flash, max_milliseconds
from po2quant.runs.request import SearchRequest
from po2quant.search.costs import CostedNetwork
from po2quant.search.energy import EnergyModel, addition, multiplication

M4 = CORES["m4"]
WIDTHS = st.sampled_from([4, 8, 16])


def weights(rng, bits, exponent, *shape):
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1)
    return Weights(rng.integers(low, high, shape), np.full(shape[-1], exponent), bits)


@pytest.mark.parametrize("core", rates())
def test_every_operation_that_is_a_loop_over_its_outputs_has_rates(core):
    """One without any would be counted as free."""
    loops = COUNTED[Calls.elementwise]
    kinds = {kind.__name__ for kind, call in CALLS.functions.items() if COUNTED.get(call) is loops}
    assert kinds <= {part.split(" ")[0] for part in rates()[core]} and len(kinds) == 9


@pytest.fixture(scope="module")
def template():
    """Return a network of 16-bit kernels and activations: convolution, depthwise, table, pooling, dense."""
    rng, signed, unsigned = np.random.default_rng(0), FixedPointFormat(16, -14), FixedPointFormat(16, -14, False)
    tensors = (
        Tensor("x", (10, 9, 4), signed),
        Tensor("a", (10, 9, 12), unsigned),
        Tensor("b", (10, 9, 12), unsigned),
        Tensor("t", (10, 9, 12), signed),
        Tensor("c", (1, 1, 12), signed),
        Tensor("d", (12,), signed),
        Tensor("y", (6,), signed),
    )
    same = ((1, 1), (1, 1))
    table = np.linspace(-32768, 32767, 65536).astype(np.int64)
    steps = (
        ops.Conv2D("conv", ("x",), "a", weights(rng, 16, -17, 3, 3, 4, 12), weights(rng, 31, -31, 12), padding=same),
        ops.Conv2D(
            "dw", ("a",), "b", weights(rng, 16, -17, 3, 3, 1, 12), weights(rng, 31, -31, 12), padding=same, groups=12
        ),
        ops.LookUpTable("silu", ("b",), "t", table, "silu"),
        ops.AveragePooling("pool", ("t",), "c", (10, 9), (10, 9)),
        ops.Reshape("flatten", ("c",), "d"),
        ops.Dense("dense", ("d",), "y", weights(rng, 16, -17, 12, 6), weights(rng, 31, -31, 6)),
    )
    # a Reshape keeps the format of what it reads
    return WidthTemplate(Program("net", tensors, ("x",), steps, (Output("y"),)))


def widths_of(kernel, activation, bias=16):
    slots = {f"{name}.activation": activation for name in ("x", "a", "b", "t", "c", "y")}
    return slots | {
        f"{name}.{part}": bits
        for name in ("conv", "dw", "dense")
        for part, bits in (("kernel", kernel), ("bias", bias))
    }


def costs_of(template, packed, *names):
    return [CostedNetwork((), template, packed).cost(cost_name(name)) for name in names]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("kernel", "activation"), [(16, 16), (8, 8), (4, 8), (8, 4), (16, 4)])
def test_flash_and_ram_are_those_of_the_written_c(template, packed, kernel, activation):
    widths = widths_of(kernel, activation)
    flash, ram = costs_of(template, packed, "flash", "ram")
    arrays, arena = memory_bytes(template.at(widths), packed)
    assert ram(widths) == arena
    described = 64 * 4 + 4 * 4 * 3
    assert arrays <= flash(widths) <= arrays + described + 3 * 20


@pytest.mark.skipif(bool(M4.missing_tools()), reason="needs the tools of an emulated Cortex-M4")
@pytest.mark.parametrize(("kernel", "activation", "packed"), [(8, 8, False), (4, 8, True), (16, 8, False)])
def test_instructions_are_within_a_tenth_of_emulation_and_flash_holds(template, tmp_path, kernel, activation, packed):
    widths = widths_of(kernel, activation)
    about, flash, with_code = costs_of(template, packed, "instructions:m4", "flash", "flash:m4")
    program = template.at(widths)
    executable = compile_for(M4, write_c(program, tmp_path, "net", packed), tmp_path)
    x = program.tensor["x"].format
    found, _ = count(M4, executable, [np.random.default_rng(0).integers(x.min_int, x.max_int + 1, (1, 10, 9, 4))])
    assert about(widths) == pytest.approx(found.total, rel=0.1)
    code, constants = code_bytes(M4, executable)
    assert constants <= flash(widths)
    assert with_code(widths) - flash(widths) == pytest.approx(code, rel=0.25)


@settings(max_examples=30, deadline=None)
@given(kernel=WIDTHS, activation=WIDTHS)
def test_a_sum_over_operations_is_the_cost_of_the_whole_program(template, kernel, activation):
    widths = widths_of(kernel, activation)
    (about,) = costs_of(template, False, "instructions:m4")
    assert about(widths) == pytest.approx(instructions("m4", work_of_program(template.at(widths))))


def test_bit_operations_multiply_the_widths_of_weight_and_input(template):
    (bops,) = costs_of(template, False, "bops")
    macs = 90 * 9 * 4 * 12 + 90 * 9 * 12 + 12 * 6
    assert bops(widths_of(4, 8)) == macs * 4 * 8


def test_energy_is_that_of_qtools_figures():
    assert multiplication(8) == pytest.approx(0.2, abs=1e-3) and addition(32) == 0.1
    model = EnergyModel()
    assert model.read("dram", 100) == pytest.approx(2031.25) and model.read("fixed", 100) == 0.0
    assert model.read("sram", 2**18) == pytest.approx(4096 * (0.02455 * 18**2 - 0.2656 * 18 + 0.8661))


def test_narrower_widths_take_less_energy(template):
    for name in ("energy", "energy:stm32u385", "energy:gap9"):
        (energy,) = costs_of(template, False, name)
        assert energy(widths_of(8, 8)) < energy(widths_of(16, 16))


def test_every_core_of_the_table_has_rates():
    assert rates().keys() == set(FOR["instructions"]) <= CORES.keys()
    assert {"", *rates(CODE_FILE)} == set(FOR["flash"])


def in_a_row(layers):
    """Return a program of depthwise layers that are computed by the same function."""
    rng, signed = np.random.default_rng(0), FixedPointFormat(8, -6)
    tensors = [Tensor(f"t{i}", (6, 6, 4), signed) for i in range(layers + 1)]
    steps = [
        ops.Conv2D(
            *(f"dw{i}", (f"t{i}",), f"t{i + 1}", weights(rng, 8, -8, 3, 3, 1, 4), weights(rng, 16, -14, 4)),
            padding=((1, 1), (1, 1)),
            groups=4,
        )
        for i in range(layers)
    ]
    return Program("net", tuple(tensors), ("t0",), tuple(steps), (Output(f"t{layers}"),))


@pytest.mark.parametrize(("layers", "copies"), [(1, 1), (MOST_COPIES, MOST_COPIES), (MOST_COPIES + 1, 1)])
def test_operations_have_copies_of_a_function_as_long_as_they_are_few(layers, copies):
    program, functions = in_a_row(layers), Functions()
    code = code_of_program(program)
    assert (code["function depthwise"], code["copy depthwise"], code["call Conv2D"]) == (1, copies, layers)
    is_shared = shared([use_of(program, operation, False, functions) for operation in program.operations])
    assert is_shared == [copies < layers] * layers
    assert work_of_program(program)["shared depthwise finish"] == (layers * 144 if copies < layers else 0)


@pytest.mark.parametrize("text", ["", "cycles", "instructions", "instructions:z80", "bits:m4", "bits:", "energy:x"])
def test_an_unknown_cost_is_refused_with_the_valid_ones(text):
    with pytest.raises(ValueError, match=r"a cost must be one of bits, flash, .*instructions:m4"):
        cost_name(text)


@pytest.mark.parametrize("text", ["50", "50@m4:120", "0@m4:120MHz", "nan@m4:1MHz", "1.2.3@m4:1MHz", "5@m4:1e3MHz"])
def test_a_time_of_another_form_is_refused(text):
    with pytest.raises(ValueError, match="a time must read like 50@m4:120MHz"):
        max_milliseconds(text)


def test_a_limit_of_flash_is_of_constants_or_with_the_code_of_a_core():
    requests = [SearchRequest(benchmark="digits", max_flash_kib=limit) for limit in (19, "19", "64@m4")]
    assert [request.max_flash_kib for request in requests] == [19, 19.0, "64@m4"]
    names = [str(limit.cost) for request in requests for limit in request.limits]
    assert names == ["flash", "flash", "flash:m4"] and requests[2].limits[0].maximum == 65536


@pytest.mark.parametrize("text", ["64@", "@m4", "0@m4", "nan@m4", "64@m4:120MHz", "64@z80", "-1", "inf", "1e99"])
def test_a_limit_of_flash_of_another_form_is_refused(text):
    with pytest.raises(ValueError, match=r"a limit of flash must be a finite number of KiB|a cost must be one of"):
        max_flash(text)


def test_costs_of_the_c_are_refused_without_a_program():
    with pytest.raises(ValueError, match="must be of a network with an integer program"):
        CostedNetwork([LayerShape("x", "InputLayer", "input", (4,))]).cost(cost_name("flash"))


def test_the_template_keeps_ranges_when_widths_narrow(template):
    narrow = template.at(widths_of(4, 8))
    for tensor in narrow.tensors:
        wide = template.program.tensor[tensor.name].format
        assert tensor.format.max_value == pytest.approx(wide.max_value, rel=0.01)
