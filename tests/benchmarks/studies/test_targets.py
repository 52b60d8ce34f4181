"""The comparison of chips' tools with the interpreter: what it counts, and what it says of a tool that fails."""

from __future__ import annotations

import pytest
from random_programs import random_program, samples

from benchmarks.studies.document import END, begin_mark
from benchmarks.studies.targets import CASES, REPORT_COMMAND, counted, main, write_report
from po2quant.integer.interpreter import run
from po2quant.targets import TARGETS


def test_what_differs_is_counted_and_what_fails_is_said(tmp_path):
    program = random_program(0, 8)
    expected = run(program, samples(program))

    def one_off(program, expected, folder):
        return {"a": expected["a"][:2], "b": expected["b"][:2] + 1}

    def broken(program, expected, folder):
        raise RuntimeError("no kernel\nfor this")

    found = counted(one_off, program, expected, tmp_path, "generic")
    size = expected["a"][:2].size
    assert (found["samples"], found["integers"], found["mismatches"]) == (2, 2 * size, size)
    assert found["differing"] == "b" and found["refused"] == ""
    assert counted(broken, program, expected, tmp_path, "generic")["refused"] == "RuntimeError: no kernel for this"
    assert "esp32-s3 has not" in counted(one_off, program, expected, tmp_path, "esp32-s3")["refused"]


def test_cases_name_targets_and_the_report_shows_them(tmp_path):
    assert {target for target, *_ in CASES} <= set(TARGETS)
    report, shared = tmp_path / "exchange.md", {"target": "litert", "config": "flat8", "reader": "XNNPACK"}
    report.write_text(f"{begin_mark(REPORT_COMMAND)}\n{END}\n", encoding="utf-8")
    exact = {"model": "a", "mismatches": "0", "integers": "1234", "largest_difference": "0", "refused": ""}
    off = {"model": "b", "mismatches": "2", "integers": "9", "largest_difference": "1.0", "refused": ""}
    write_report([shared | exact, shared | off], report)
    assert "| litert | flat8 | XNNPACK | 0 of 1 234 | 2 of 9, by 1 |" in report.read_text(encoding="utf-8")


def test_nothing_to_do_is_said(capsys):
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "--weights and --data-dir, or --report" in capsys.readouterr().err
