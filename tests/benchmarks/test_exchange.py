"""The comparison of exchange files with the interpreter: what it counts, and which rows it makes."""

import numpy as np
import pytest
from exchange_networks import computed, frozen_every_operation

from benchmarks.exchange import comparisons, count

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


def test_each_format_has_its_rows(tmp_path):
    quantized = frozen_every_operation(8)
    program, x, _ = computed(quantized, 16)
    rows = list(comparisons(quantized, program, x, tmp_path))
    exact = [row for row in rows if row["format"] in ("QONNX", "qkeras") or row["executor"].endswith("off")]
    assert [row["mismatches"] for row in exact] == [0, 0, 0]
    alone = [row for row in rows if row["executor"].endswith("alone")]
    assert [row["largest_difference"] for row in alone] == [1, 1, 1, 1]
    assert all(row["tensors"] == len(program.operations) for row in alone if row["format"] == "LiteRT")
    assert len(rows) == 11
