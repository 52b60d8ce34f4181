"""The study of microcontrollers: rows that repeat, are replaced by key, and stand beside CMSIS-NN's counts."""

from __future__ import annotations

import pytest
from random_programs import wide_program

from benchmarks.studies.microcontroller import by_kind, main, write_report
from po2quant.export.cores.emulator import CORES
from po2quant.files import read_csv

needs_m4 = pytest.mark.skipif(bool(CORES["m4"].missing_tools()), reason="the tools of core m4 are not installed")


@needs_m4
def test_a_row_repeats_and_is_replaced(tmp_path):
    """The same count twice, one row, no byte that differs, no ratio for a configuration that nobody counted."""
    wide_program().save(tmp_path / "ds_cnn-any.npz")
    output = tmp_path / "counts.csv"
    arguments = ["--programs", str(tmp_path), "--output", str(output), "--models", "ds_cnn", "--configs", "any"]
    arguments += ["--cores", "m4", "--formats", "c", "--levels", "O3"]
    main(arguments)
    (first,) = read_csv(output)
    main(arguments)
    (second,) = read_csv(output)
    assert first == second
    assert first["differing_output_bytes"] == "0" and int(first["instructions"]) > 0
    kinds = sum(int(value) for name, value in first.items() if name.endswith("_instructions") and "cmsis" not in name)
    assert kinds == int(first["instructions"])


def test_functions_are_counted_by_kind_of_layer():
    counted = by_kind({"pairs_take_pairs_1": 5, "quads_by_words_2.constprop.0": 7, "memcpy": 2})
    assert counted["dots_instructions"] == 5 and counted["depthwise_instructions"] == 7
    assert counted["other_instructions"] == 2 and sum(counted.values()) == 14


def test_the_report_needs_its_marks(tmp_path):
    document = tmp_path / "document.md"
    document.write_text("no marks\n")
    with pytest.raises(ValueError, match="must contain"):
        write_report([], document)
