"""Rates of instructions are fitted part by part, and lose none that another fit gave."""

from benchmarks.studies import instructions
from po2quant.files import read_csv, write_csv


def test_a_fit_of_some_parts_keeps_the_rates_of_others(tmp_path, monkeypatch, capsys):
    file = tmp_path / "rates.csv"
    given = [("m0", "Add i8", 3.0), ("m0", "Maximum i8", 9.0), ("m4", "Maximum i8", 5.0)]
    write_csv(file, [{"core": core, "part": part, "rate": rate} for core, part, rate in given])
    found = {"Maximum i8": 2.0, "Minimum i8": 4.0}
    monkeypatch.setitem(instructions.FITS, "moves", (file, lambda *_: (found, 0.0), ""))
    monkeypatch.setattr(instructions, "checked_core", lambda core: core)  # nothing is compiled
    instructions.main(["--moves", "--cores", "m0"])
    rows = [tuple(row.values()) for row in read_csv(file)]
    expected = [("m0", "Add i8", "3.0"), ("m0", "Maximum i8", "2.0"), ("m4", "Maximum i8", "5.0")]
    assert rows == [*expected, ("m0", "Minimum i8", "4.0")]
    assert "m0: 2 rates" in capsys.readouterr().out
