"""What ``import po2quant`` gives, and what it does not start."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from types import ModuleType

import pytest
from selections import slow_but

import po2quant

NAMES = (
    "AutoQKeras",
    "BitConfig",
    "Program",
    "calibrate",
    "check",
    "compare",
    "export",
    "finetune",
    "flat_config",
    "fold",
    "freeze",
    "freeze_scales",
    "frozen_network",
    "integer_program",
    "load_benchmark",
    "load_model",
    "load_program",
    "quantize",
    "quantize_inputs",
    "quantize_model",
    "quantized_bits",
    "quantized_bits_featuremap",
    "report",
    "run",
    "search",
    "summary",
    "verify",
    "write_c",
)
TIMEOUT_S = 300


def run_python(code: str, *arguments: object) -> str:
    """Return what a fresh process prints."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_listed_and_found(name):
    assert name in dir(po2quant) and name in po2quant.__all__
    found = getattr(po2quant, name)
    if isinstance(found, ModuleType):  # the package of the same name, which is called like the function
        assert callable(found) and found.__name__ == f"po2quant.{name}"
    else:
        assert found.__module__.startswith("po2quant.") and found.__name__ == name


def test_nothing_else_is_listed():
    assert sorted(po2quant.__all__) == sorted(NAMES)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        po2quant.nothing_of_the_kind  # noqa: B018


def test_importing_the_package_and_its_integer_wing_starts_no_tensorflow():
    heavy = run_python(
        """
        import sys, po2quant
        po2quant.Program, po2quant.run, po2quant.write_c, po2quant.BitConfig, po2quant.load_benchmark
        print([name for name in ("tensorflow", "keras", "qkeras") if name in sys.modules])
        """
    )
    assert heavy == "[]"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return the file of a quantized network."""
    import keras

    model = keras.Sequential(
        [keras.Input((2, 2)), keras.layers.Permute((2, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    network = po2quant.fold(model)
    quantized = network.quantize(network.flat(8))
    po2quant.calibrate(quantized, keras.random.normal((16, 2, 2), seed=0).numpy())
    po2quant.freeze_scales(quantized)
    path = tmp_path_factory.mktemp("saved") / "network.keras"
    quantized.save(path)
    return path


@pytest.mark.parametrize(
    "imports",
    slow_but(
        ("import po2quant, keras",),
        (
            "import po2quant, keras",
            "import keras, po2quant",
            "import po2quant, qkeras, keras",
            "import po2quant, tensorflow as tf; keras = tf.keras",
        ),
    ),
)
def test_a_quantized_file_loads_after_importing_the_package_alone(saved, imports):
    code = """
import sys
model = keras.models.load_model(sys.argv[1])
print(type(model.layers[1].activation).__name__)
"""
    assert run_python(f"{imports}\n{code}", saved) == "quantized_bits_featuremap"
