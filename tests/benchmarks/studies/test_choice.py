"""Studies of what a search returns: its choice under noise, and what a found configuration is worth."""

import pytest
import search_process

from benchmarks.studies import choice, found


def row(seed, rank, best, chosen):
    return {
        "seed": seed,
        "test_rank": rank,
        "test_score": 1 - rank / 10,
        "is_best_of_trials": best,
        "is_chosen": chosen,
    }


def test_the_summary_of_choices_has_the_mean_rank_of_both():
    rows = [row(0, 1, 0, 1), row(0, 3, 1, 0), row(1, 2, 1, 1), row(1, 1, 0, 0)]
    best, chosen = choice.summary(rows).splitlines()
    assert best == "best of the trials: mean rank on test 2.50, mean score on test 0.7500, 2 searches"
    assert chosen == "chosen by repeats: mean rank on test 1.50, mean score on test 0.8500, 2 searches"


def test_the_summary_of_configurations_has_mean_and_deviation_over_seeds():
    rows = [{"config": "mpq", "test": "0.9"}, {"config": "found", "test": "0.8"}, {"config": "found", "test": "0.6"}]
    assert found.summary(rows) == ["mpq: test 0.9000 ± 0.0000, 1 seeds", "found: test 0.7000 ± 0.1414, 2 seeds"]


@pytest.mark.slow
def test_a_search_is_ranked_on_test_data_and_a_found_network_trained_with_a_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(choice, "TRIALS", 3)
    monkeypatch.setattr(choice, "EPOCHS", 1)
    monkeypatch.setattr(choice, "REPEATS", 6)
    monkeypatch.setattr(choice, "TEST_TRAININGS", 2)
    experiment = search_process.experiment(None).with_float_weights(tmp_path / "float")
    rows = choice.searched(experiment)
    assert [row["test_rank"] for row in rows] == [1, 2, 3]
    assert sum(row["is_chosen"] for row in rows) == sum(row["is_best_of_trials"] for row in rows) == 1
    assert [row["test_score"] for row in rows] == sorted((row["test_score"] for row in rows), reverse=True)
    study = found.Study(experiment, 1, "m4", packed=True)
    flat = experiment.network.flat(8)
    first, again = (study.row(flat, 3, counted=False) for _ in range(2))
    assert first == again and 0.0 <= first["test"] <= 1.0 and first["instructions"] is None
