"""The oracle: flat configurations, then promising ones, then its own, and none twice."""

import pytest

from po2quant.cost import LayerShape
from po2quant.search.oracle import SeededOracle
from po2quant.search.problem import Goal, SearchProblem
from po2quant.search.space import SearchSpace

LAYERS = [LayerShape(f"dense_{index}", "Dense", "weights", (2,), 8, 2) for index in range(3)]
SPACE = SearchSpace(kernel=(4, 8), bias=(16,))


def oracle_of(max_trials, space=SPACE, seed=0, max_bits=None, **arguments):
    problem = SearchProblem(space, LAYERS, Goal.of_size(LAYERS, max_bits), max_trials, seed=seed)
    return SeededOracle(problem, **arguments)


def trials_of(oracle, folder, score):
    """Return the values of all trials of an oracle, each reported with its score."""
    oracle._set_project_dir(str(folder), "tuner")
    trials = []
    while (trial := oracle.create_trial("tuner0")).status == "RUNNING":
        trials.append(dict(trial.hyperparameters.values))
        oracle.update_trial(trial.trial_id, {"score": score(trial.hyperparameters.values)})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    return trials


def kernels(values):
    return tuple(values[f"dense_{index}.kernel"] for index in range(3))


@pytest.mark.parametrize("random_trials", [0, 3])
def test_every_configuration_is_tried_once_and_then_the_search_ends(tmp_path, random_trials):
    oracle = oracle_of(50, random_trials=random_trials)
    tried = [kernels(values) for values in trials_of(oracle, tmp_path, lambda values: values["dense_0.kernel"] / 8)]
    assert len(tried) == len(set(tried)) == 8


def test_a_space_without_a_choice_has_one_trial(tmp_path):
    oracle = oracle_of(5, SearchSpace((8,), (16,), (8,)), random_trials=0)
    assert [kernels(values) for values in trials_of(oracle, tmp_path, lambda values: 0.5)] == [(8, 8, 8)]


@pytest.mark.parametrize("random_trials", [0, 3])
def test_under_a_size_limit_every_configuration_that_fits_is_tried_once_and_no_other(tmp_path, random_trials):
    two_wide_kernels = 3 * 2 * 16 + 8 * (8 + 8 + 4)
    oracle = oracle_of(50, random_trials=random_trials, max_bits=two_wide_kernels)
    tried = [kernels(values) for values in trials_of(oracle, tmp_path, lambda values: sum(kernels(values)) / 24)]
    assert tried[0] == (4, 4, 4)
    assert len(tried) == len(set(tried)) == 7 and (8, 8, 8) not in tried


def test_flat_configurations_come_first_then_promising_ones(tmp_path):
    values = {"dense_0.bias": 16, "dense_1.bias": 16, "dense_2.bias": 16}
    promising = [
        values | {f"dense_{index}.kernel": bits for index, bits in enumerate(kernel)}
        for kernel in ((4, 8, 4), (8, 8, 8), (4, 8, 4))
    ]
    oracle = oracle_of(4, promising=promising)
    tried = [kernels(trial) for trial in trials_of(oracle, tmp_path, lambda values: 0.5)]
    assert tried[:3] == [(4, 4, 4), (8, 8, 8), (4, 8, 4)]
    assert len(tried) == 4


def test_the_same_seed_gives_the_same_trials(tmp_path):
    def run(name, seed):
        oracle = oracle_of(6, seed=seed, random_trials=1)
        return trials_of(oracle, tmp_path / name, lambda values: sum(kernels(values)) / 24)

    assert run("a", 0) == run("b", 0) != run("c", 1)


def test_a_trial_that_was_killed_while_it_was_created_runs_and_is_not_repeated(tmp_path, monkeypatch):
    def interrupt(oracle):
        raise KeyboardInterrupt

    oracle = oracle_of(50)
    oracle._set_project_dir(str(tmp_path), "tuner")
    oracle.save()
    with monkeypatch.context() as patch:
        patch.setattr(SeededOracle, "save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            oracle.create_trial("tuner0")
    again = oracle_of(50)
    again._set_project_dir(str(tmp_path), "tuner")
    again.reload()
    tried = [kernels(values) for values in trials_of(again, tmp_path, lambda values: 0.5)]
    assert tried[0] == (4, 4, 4)
    assert len(tried) == len(set(tried)) == 8


def test_every_trial_counts_where_the_kernel_is_fitted_to_a_part_of_them(tmp_path, monkeypatch):
    def score(values):
        return sum(kernels(values)) / 24

    monkeypatch.setattr("po2quant.search.oracle._KERNEL_TRIALS", 3)
    oracle = oracle_of(8, random_trials=8)
    tried = trials_of(oracle, tmp_path, score)
    vectors, _ = oracle._vectorize_trials()
    assert len(vectors) == 8
    expected = [-score(values) for values in tried]  # Keras Tuner minimises
    assert oracle._fitted_process().predict(vectors) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    "content", ["{}", "[]", '{"trials": 1}', '{"hyperparameters": {"space": [{"class_name": "X"}]}}', ""]
)
def test_a_state_that_no_oracle_wrote_is_named(content, tmp_path):
    trials_of(oracle_of(2), tmp_path, lambda values: 0.5)
    again = oracle_of(2)
    again._set_project_dir(str(tmp_path), "tuner")
    (tmp_path / "tuner" / "oracle.json").write_text(content)
    with pytest.raises(ValueError, match=r"oracle\.json must be the state of a search\. Received: "):
        again.reload()
