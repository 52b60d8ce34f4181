"""The comparison of exchange files with the interpreter: what it counts, and which rows it makes."""

import numpy as np
import pytest
from exchange_networks import computed, frozen_every_operation

from benchmarks.studies.document import END, begin_mark
from benchmarks.studies.exchange import KEY, REPORT_COMMAND, comparisons, count, main, write_report
from benchmarks.studies.rows import replace_rows
from po2quant.files import read_csv

for package in ("onnx", "onnxruntime", "qonnx", "ai_edge_litert"):
    pytest.importorskip(package, reason=f"{package} is not installed: po2quant[exchange]")


def test_differences_are_counted_by_tensor():
    expected = {"a": np.array([[1, 2], [3, 4]]), "b": np.array([5]), "c": np.array([6])}
    found = {"a": np.array([[1.0, 2.5], [0.0, 4.0]]), "b": np.array([5], np.uint8)}
    assert count(found, expected) == {
        "tensors": 2,
        "integers": 5,
        "mismatches": 2,
        "largest_difference": 3.0,
        "differing": "a",
    }


def test_unsigned_bytes_do_not_wrap():
    assert count({"a": np.array([1], np.uint8)}, {"a": np.array([3])})["largest_difference"] == 2


@pytest.mark.slow
def test_each_format_has_its_rows_and_the_report_shows_them(tmp_path):
    quantized = frozen_every_operation(8)
    program, x, _ = computed(quantized, 16)
    rows = list(comparisons(quantized, program, x, tmp_path))
    exact = [row for row in rows if row["format"] in ("QONNX", "qkeras") or row["executor"].endswith("off")]
    assert [row["mismatches"] for row in exact] == [0, 0, 0]
    alone = [row for row in rows if row["executor"].endswith("alone")]
    assert [row["largest_difference"] for row in alone] == [1, 1, 1, 1]
    assert all(row["tensors"] == len(program.operations) for row in alone if row["format"] == "LiteRT")
    assert len(rows) == 11
    network = {"benchmark": "digits", "model": "every", "config": "flat8-auto_po2", "samples": 16}
    table, report = tmp_path / "exchange.csv", tmp_path / "exchange.md"
    for stale in (True, False):
        replace_rows(table, [network | row | {"mismatches": 1 if stale else row["mismatches"]} for row in rows], KEY)
    report.write_text(f"{begin_mark(REPORT_COMMAND)}\n{END}\n", encoding="utf-8")
    write_report(read_csv(table), report)
    exact, alone, whole = [line for line in report.read_text(encoding="utf-8").splitlines() if "every" in line]
    assert exact.startswith("| every | 16 | 0 of ") and exact.count("| 0 of ") == 3
    assert alone.count(", by 1 |") == 4 and whole.count("|") == 7


def test_nothing_to_do_is_said(capsys):
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "run folders of flat 8-bit networks, or --report" in capsys.readouterr().err
