"""What Keras ships in ``keras.applications``: all of it goes through, but for what normalizes each input anew."""

import pytest
from zoo_journey import travel
from zoo_published import FAMILIES, NAMES, narrow, published

from po2quant.compat import without_values
from po2quant.network.lowering import obstacles_of

NORMALIZES_EACH_INPUT = {name for name in NAMES if name.startswith("ConvNeXt")}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_network_is_supported_or_refused_for_layer_normalization_alone(name):
    with without_values():
        obstacles = obstacles_of(published(name))
    expected = {"LayerNormalization"} if name in NORMALIZES_EACH_INPUT else set()
    assert {obstacle.class_name for obstacle in obstacles} == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_of_each_family_is_exact_in_the_interpreter_in_float64_and_in_c(name, tmp_path):
    travel(lambda: narrow(name), tmp_path)
