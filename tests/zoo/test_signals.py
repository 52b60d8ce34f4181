"""Networks over sound, motion, vital signs and numbers, from ``check`` to C."""

import pytest
from selections import slow_but
from zoo_journey import travel
from zoo_signals import SIGNALS


@pytest.mark.parametrize("name", slow_but(("ds_cnn", "siamese"), SIGNALS))
def test_a_network_is_exact_in_the_interpreter_in_float64_and_in_c(name, tmp_path):
    travel(SIGNALS[name], tmp_path)
