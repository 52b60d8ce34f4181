"""Networks that classify images, from ``check`` to C."""

import pytest
from selections import slow_but
from zoo_images import IMAGES
from zoo_journey import travel


@pytest.mark.parametrize("name", slow_but(("ghostnet", "shufflenet_v2"), IMAGES))
def test_a_network_is_exact_in_the_interpreter_in_float64_and_in_c(name, tmp_path):
    travel(IMAGES[name], tmp_path)
