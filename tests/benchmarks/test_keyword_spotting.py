"""Keyword spotting on real data: exact power-of-two scales cost nothing before any training."""

import pytest

from po2quant.benchmark import load_benchmark
from po2quant.training.prepare import evaluate, prepare_network, resolve_config

POINTS_LOST = 0.003
"""Three samples of the 1000 of MLPerf Tiny's accuracy set."""


@pytest.fixture(scope="module")
def task(shared):
    weights, archive = shared("pretrained/kws_ds_cnn.h5"), shared("data/mlperf_tiny_kws01.zip")
    benchmark = load_benchmark("keyword_spotting")
    return benchmark, weights, benchmark.load_data(archive, 0)


def accuracy(task, config, alpha="auto_po2", **options):
    benchmark, weights, data = task
    _, spec = benchmark.network()
    widths = resolve_config(config, spec)
    widths = None if widths is None else widths.with_alpha(alpha)
    prepared = prepare_network(spec.fold(), widths, weights, data, **options)
    return evaluate(benchmark, prepared.model, data.test).value


def test_the_float_network_scores_as_published(task):
    assert accuracy(task, "float") == 0.913


@pytest.mark.slow
@pytest.mark.parametrize("config", ["flat16", "flat8"])
def test_exact_scales_lose_at_most_three_samples(task, config):
    assert accuracy(task, config) >= 0.913 - POINTS_LOST


@pytest.mark.slow
def test_the_stock_rule_is_at_chance_at_16_bits(task):
    assert accuracy(task, "flat16", scale_rule="stock") < 0.2
