"""The objective: which way a metric improves, and what AutoQKeras' goal makes of a size."""

import keras
import pytest
from networks import DENSE_NETWORK

from po2quant.autoqkeras.objective import DEFAULT_GOAL, BitsGoal, MetricObjective
from po2quant.benchmark import inverse_loss
from po2quant.bit_config import BitConfig
from po2quant.cost import ForgivingFactor, network_size
from po2quant.search.space import SearchSpace

LOGS = {"loss": 0.5, "accuracy": 0.75, "auc": 0.9}


@pytest.mark.parametrize(
    ("metrics", "value", "compiled"),
    [
        (None, 0.75, ("accuracy",)),
        ("accuracy", 0.75, ("accuracy",)),
        (["auc", "mse"], 0.9, ("auc", "mse")),
        ([inverse_loss], 1 / (1 + 0.5**10), ()),
        ([lambda logs: 1 - logs["loss"], "accuracy"], 0.5, ("accuracy",)),
    ],
)
def test_the_first_metric_is_the_objective(metrics, value, compiled):
    objective = MetricObjective.of(metrics)
    assert objective(LOGS) == value
    assert objective.metrics == compiled


def test_a_metric_object_is_copied_and_read_under_its_name():
    metric = keras.metrics.AUC(name="area", num_thresholds=7)
    objective = MetricObjective.of([metric])
    (copied,) = objective.metrics
    assert objective({"area": 0.25}) == 0.25
    assert copied is not metric
    assert copied.num_thresholds == 7


@pytest.mark.parametrize("metric", ["acc", "AUC", "Recall", "F1Score", keras.metrics.categorical_accuracy])
def test_metrics_that_grow_are_accepted(metric):
    assert MetricObjective.of([metric]).metrics == (metric,)


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("loss", "loss"),
        ("mse", "mse"),
        ("MeanAbsoluteError", "MeanAbsoluteError"),
        ("crossentropy", "crossentropy"),
        (keras.metrics.mean_squared_error, "mean_squared_error"),
        (keras.metrics.MeanSquaredError(name="error"), "error"),
    ],
)
def test_a_minimised_metric_is_refused_with_the_way_out(metric, name):
    with pytest.raises(ValueError, match=rf"'{name}', which is minimised; .*lambda logs: 1 / \(1 \+ logs\['{name}'\]"):
        MetricObjective.of([metric])


def test_a_metric_of_unknown_direction_is_maximised_as_qkeras_does():
    def gain(targets, outputs):
        return outputs

    objective = MetricObjective.of([gain])
    assert objective.metrics == (gain,) and objective({"gain": 0.5}) == 0.5
    assert MetricObjective.of([lambda logs: logs["gain"], gain])({"gain": 0.5}) == 0.5


def test_an_unknown_metric_is_refused_with_the_names_in_the_logs():
    with pytest.raises(ValueError, match=r"logs, which have loss, mae\. Received: 'acuracy'"):
        MetricObjective.of(["acuracy", "mae"])
    objective = MetricObjective.of(lambda logs: logs["acc"])
    with pytest.raises(ValueError, match=r"must use the logs loss, accuracy, auc\. Received: 'acc'"):
        objective(LOGS)


@pytest.mark.parametrize("metrics", [{"a": "accuracy", "b": "auc"}, ["accuracy", inverse_loss], [3]])
def test_other_metrics_are_refused(metrics):
    with pytest.raises(ValueError, match="must"):
        MetricObjective.of(metrics)


def test_a_negative_or_many_valued_metric_is_refused():
    with pytest.raises(ValueError, match=r"must be 0 or above.*Received: -0\.5"):
        MetricObjective.of(lambda logs: -logs["loss"])(LOGS)
    with pytest.raises(ValueError, match=r"must be one number\. Received: \[0\.5, 0\.5\]"):
        MetricObjective.of(lambda logs: [logs["loss"]] * 2)(LOGS)


def goal(**params):
    return BitsGoal.from_dict({"type": "bits", "params": params})


def test_deltas_are_in_percent_and_the_default_is_autoqkeras():
    assert goal(delta_p=5.0, delta_n=3.0, rate=4.0, stress=0.5).factor == ForgivingFactor(0.05, 0.03, 4.0, 0.5)
    assert BitsGoal.from_dict(None) == BitsGoal.from_dict(DEFAULT_GOAL)
    assert BitsGoal.from_dict(None).factor == ForgivingFactor(0.08, 0.08, 2.0, 1.0)


def test_the_published_goal_gives_the_published_factor(shared):
    import json

    from po2quant.benchmark import load_benchmark

    published = json.loads(shared("published_configs/autoqkeras_run_config.json").read_text())["goal"]
    spec = load_benchmark("anomaly_detection").network()[1]
    layers = spec.fold().layers
    of_network = BitsGoal.from_dict(published).of_network(layers)
    known = SearchSpace().values_of_config(BitConfig.load(spec.mpq_config), layers)
    trial_bits = of_network.cost(known)
    assert (trial_bits, of_network.reference) == (1259512, 4321016)
    assert round(100 * (of_network.factor(trial_bits) - 1), 2) == 8.89


def test_what_the_goal_does_not_count_costs_nothing():
    config = {"default": ["parameters"], "InputLayer": ["activations"]}
    counted = goal(config=config).counted_layers(DENSE_NETWORK)
    size = network_size(counted, BitConfig.flat(["dense"], ["activation"], 8, 16))
    assert (size.activation_bits, size.parameter_bits) == (8 * 4, 8 * 8 + 16 * 2)


def test_inputs_and_outputs_may_have_other_widths():
    of_network = goal(input_bits=16, output_bits=4, ref_bits=8, ref_bias_bits=8).of_network(DENSE_NETWORK)
    assert of_network.reference == 16 * 4 + 4 * 2 + 8 * (4 + 8 + 2)
    eight = {"dense.kernel": 8, "dense.bias": 8, "activation.activation": 8}
    assert of_network.cost(eight) == of_network.reference
    assert of_network.factor(of_network.reference) == 1.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"type": "energy", "params": {}}, "must read like"),
        ({"type": "speed"}, "must read like"),
        ("bits", "must read like"),
        ({"type": "bits", "params": {"delta": 5}}, "must be among delta_p.*Received: 'delta'"),
        ({"type": "bits", "params": {"delta_p": "5"}}, "must be numbers"),
        ({"type": "bits", "params": {"rate": 1.0}}, "rate must be above 1"),
        ({"type": "bits", "params": {"ref_bits": 64}}, "bits=64"),
        ({"type": "bits", "params": {"config": {"default": ["weights"]}}}, "must list parameters and activations"),
    ],
)
def test_a_bad_goal_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        BitsGoal.from_dict(wrong)


def test_a_goal_that_counts_nothing_is_refused():
    nothing = goal(config={"default": []})
    with pytest.raises(ValueError, match="must count something"):
        nothing.of_network(nothing.counted_layers(DENSE_NETWORK))
