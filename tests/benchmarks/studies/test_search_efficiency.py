"""The comparison of searches: what it reads out of trials, and that it runs no search twice."""

import pytest

from benchmarks.studies import search_efficiency
from benchmarks.studies.search_efficiency import main, read_rows, summary, time_summary, trials_to_reach
from po2quant.training.finetune import Experiment


def rows(strategy, seed, scores):
    best = 0.0
    for number, score in enumerate(scores, 1):
        best = max(best, score)
        yield {"strategy": strategy, "seed": seed, "trial": number, "score": score, "best_score": best}


def test_trials_to_reach_counts_from_one():
    assert [trials_to_reach([0.5, 0.7, 0.9], score) for score in (0.5, 0.6, 0.9, 1.0)] == [1, 2, 3, None]


def test_the_summary_compares_with_the_bayesian_search_of_the_same_seed():
    table = [*rows("bayesian", 0, [0.2, 0.6, 0.5]), *rows("bayesian", 1, [0.9]), *rows("informed", 0, [0.5, 0.7])]
    table += rows("informed", 1, [0.8])
    bayesian, informed = summary(table)
    assert bayesian.endswith(": 2, 1")
    assert informed.endswith(": 2, not reached")


def test_scores_are_compared_where_informed_had_spent_half_of_its_time():
    table = [
        {**row, "processor_seconds_so_far": seconds * row["trial"]}
        for strategy, seconds, scores in (("informed", 4.0, [0.5, 0.6, 0.9]), ("gradient", 5.0, [0.7, 0.8]))
        for row in rows(strategy, 0, scores)
    ]
    informed, gradient = time_summary(table)
    assert informed == "informed: 0.9000 in 12.0 s, 1 seeds; 0.5000 in half of informed's time"
    assert gradient == "gradient: 0.8000 in 10.0 s, 1 seeds; 0.7000 in half of informed's time"


@pytest.mark.slow
def test_a_search_is_run_once_and_the_best_score_never_falls(
    digits, digits_data, digits_weights, tmp_path, monkeypatch
):
    monkeypatch.setattr(search_efficiency, "RESULTS", tmp_path)
    experiment = Experiment(digits, "ds_cnn", digits_data, weights=digits_weights)
    strategies = {"informed": 4, "random": 3}
    search_efficiency.run(experiment, strategies, [0], 1, "command", "search_efficiency")
    path = tmp_path / "search_efficiency-digits.csv"
    first = path.read_text(encoding="utf-8")
    trials = read_rows(path)
    assert [(row["strategy"], row["trial"]) for row in trials] == [
        *(("informed", number) for number in range(1, 5)),
        *(("random", number) for number in range(1, 4)),
    ]
    for row in trials:
        assert row["best_score"] >= float(row["score"])
    for strategy in strategies:
        spent = [float(row["processor_seconds_so_far"]) for row in trials if row["strategy"] == strategy]
        assert spent == sorted(spent) and spent[0] > 0
    assert path.with_suffix(".png").stat().st_size > 0
    search_efficiency.run(experiment, strategies, [0], 1, "another command", "search_efficiency")
    assert path.read_text(encoding="utf-8") == first


def test_a_wrong_benchmark_ends_in_one_sentence(capsys):
    with pytest.raises(SystemExit):
        main(["--benchmark", "nothing"])
    assert "Received: 'nothing'" in capsys.readouterr().err
