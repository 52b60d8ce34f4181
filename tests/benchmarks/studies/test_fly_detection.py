"""What the study of the detector counts; networks are not trained here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.fly_traits.counts import Flies
from benchmarks.fly_traits.generator import draw_picture
from benchmarks.studies import fly_detection
from benchmarks.studies.document import END, begin_mark
from benchmarks.studies.fly_detection import BOTH, MODEL, found_and_right, main
from po2quant.files import write_csv

PICTURE = draw_picture(0, 128, 10)


def flies(boxes: np.ndarray, traits: np.ndarray) -> Flies:
    return Flies(boxes, np.ones(len(boxes), np.float32), traits * 0.8 + 0.1)


def test_traits_are_compared_with_those_of_the_fly_that_a_box_hits() -> None:
    traits = PICTURE.traits.astype(float)
    traits[0, 1] = 1 - traits[0, 1]
    mixed = np.arange(9)[::-1]  # in another order, and one fly is missed
    found = flies(np.concatenate((PICTURE.boxes[mixed], [(0, 0, 1, 1)])), np.concatenate((traits[mixed], [(1, 1, 1)])))
    row = found_and_right({"a": found}, {"a": PICTURE})
    assert (row["recall"], row["precision"], row["boxes"]) == (0.9, 0.9, 10)
    assert (row["found_wing"], row["found_eye"], row["found_sex"]) == (1.0, round(8 / 9, 4), 1.0)


def test_the_report_has_a_line_a_form_and_leaves_other_networks_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, report = tmp_path / "results.csv", tmp_path / "page.md"
    rates = {"recall": 0.99, "precision": 0.98}
    proof = {"mismatches": 0, "compared": 1234567, "litert_differ": 3, "litert_outputs": 9999, "seconds_picture": 0.05}
    traits = {"found_wing": 1, "found_eye": 1, "found_sex": 1, "otherwise": 0, "counts": "1 2 3 4 5 6 7 8"}
    rows = [
        {"network": MODEL, "form": "float", **rates, "bytes": 2048},
        {"network": MODEL, "form": "w8a8", **rates, "bytes": 1024, **proof},
        {"network": "another", "form": "w8a8", "recall": "none"},
        {"network": BOTH, "form": "c", **rates, **traits},
    ]
    write_csv(results, rows)
    report.write_text(f"{begin_mark(fly_detection.REPORT_COMMAND)}\n{END}\n", encoding="utf-8")
    monkeypatch.setattr(fly_detection, "RESULTS", results)
    monkeypatch.setattr(fly_detection, "REPORT", report)
    main(["--report"])
    text = report.read_text(encoding="utf-8")
    assert "| w8a8 | 0.99 | 0.98 | 1 | 0 of 1 234 567 | 3 of 9 999 | 50.0 ms |" in text
    assert "| c | 0.99 | 0.98 | 1 | 1 | 1 | 0 | 1 2 3 4 5 6 7 8 |" in text and "none" not in text


def test_wrong_files_end_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fly_detection, "RESULTS", tmp_path / "results.csv")
    monkeypatch.setattr(fly_detection, "draw_picture", lambda seed, size, ratio: PICTURE)
    with pytest.raises(SystemExit) as end:
        main(["--networks", str(tmp_path / "absent")])
    assert end.value.code == 2 and capsys.readouterr().err.count("\n") == 1
