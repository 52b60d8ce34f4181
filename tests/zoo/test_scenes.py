"""Networks that find, separate or restore what is in an image, from ``check`` to C."""

import pytest
from selections import slow_but
from zoo_journey import travel
from zoo_scenes import SCENES


@pytest.mark.parametrize("name", slow_but(("blazeface", "fully_convolutional"), SCENES))
def test_a_network_is_exact_in_the_interpreter_in_float64_and_in_c(name, tmp_path):
    travel(SCENES[name], tmp_path)
