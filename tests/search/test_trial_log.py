"""trials.csv: a header, one row per finished trial, its id first."""

import csv

import pytest

from po2quant.search import TrialLog, TrialRow

GOOD = TrialRow("0", "completed", 1.01, 0.93, 1000, 0.5, 1.5)
BETTER = TrialRow("1", "completed", 1.05, 0.97, 1200, 0.6, 1.5)
FAILED = TrialRow("2", "failed", None, None, 900, 0.45, 0.5, 'ValueError: no "luck", today')


def write(path, *rows):
    log = TrialLog(path, ())
    for row in rows:
        log.append(row)
    return log


def test_rows_survive_a_round_trip(tmp_path):
    write(tmp_path / "trials.csv", GOOD, BETTER, FAILED)
    assert TrialLog(tmp_path / "trials.csv", ("0", "1", "2")).rows == [GOOD, BETTER, FAILED]
    with open(tmp_path / "trials.csv", newline="") as file:
        assert next(csv.reader(file))[0] == "trial_id"


@pytest.mark.parametrize("content", ["trial_id,status\n0,completed\n", "a\n1\n"])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "trials.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"trials\.csv must be the trials of a search"):
        TrialLog(path, {"0"}).ranked()


def test_a_row_of_a_trial_that_the_oracle_does_not_know_is_dropped(tmp_path):
    write(tmp_path / "trials.csv", GOOD, BETTER)
    assert TrialLog(tmp_path / "trials.csv", ("0",)).rows == [GOOD]


def test_the_best_is_the_completed_trial_of_highest_score(tmp_path):
    assert write(tmp_path / "trials.csv", GOOD, BETTER, FAILED).best() == BETTER
    assert write(tmp_path / "failed.csv", FAILED).best() is None
