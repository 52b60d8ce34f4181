"""Splits, data sets and the search for a benchmark by name."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import itertools
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import refusals

from po2quant import bundled
from po2quant.benchmark import (
    ENTRY_POINT_GROUP,
    Benchmark,
    Dataset,
    NetworkSpec,
    Recipe,
    Score,
    Split,
    accuracy_score,
    benchmark_folders,
    benchmark_names,
    inverse_loss,
    load_benchmark,
    validation_accuracy,
)

ROOT = Path(__file__).resolve().parents[1]
INSTALLED = sorted(recipe.parent.name for recipe in (ROOT / "benchmarks").glob("*/recipe.py"))


def split(samples: int = 4, seed: int = 0, **changes: np.ndarray) -> Split:
    rng = np.random.default_rng(seed)
    arrays = {"x": rng.random((samples, 3, 2), np.float32), "y": rng.integers(0, 9, samples, np.int32)}
    return Split(**(arrays | changes))


def dataset(**changes: object) -> Dataset:
    parts = {"name": "noise", "kind": "synthetic", "test": split(5, 2), "train": split(9, 0), "validation": split(3, 1)}
    return Dataset(**(parts | changes))


def test_split_has_a_length():
    assert len(split(7)) == 7


@pytest.mark.parametrize(("samples", "targets"), [(0, 0), (3, 2), (2, 3), (0, 1), (1, 0)])
def test_split_needs_as_many_targets_as_samples(samples, targets):
    with pytest.raises(ValueError, match=f"Received: {samples} samples, {targets} targets"):
        Split(np.zeros((samples, 2), np.float32), np.zeros(targets, np.int32))


@pytest.mark.parametrize("groups", [0, 3, 5])
def test_split_needs_as_many_groups_as_samples(groups):
    with pytest.raises(ValueError, match="group"):
        split(4, groups=np.zeros(groups, np.int32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_split_names_the_first_sample_that_is_not_finite(value):
    x = np.zeros((6, 2, 2), np.float32)
    x[4, 1, 0] = x[5] = value
    with pytest.raises(ValueError, match=r"NaN or infinity in sample 4$"):
        Split(x, np.zeros(6, np.int32))


def test_split_of_integers_is_finite():
    assert len(Split(np.arange(6).reshape(3, 2), np.arange(3))) == 3


def test_head_takes_the_first_samples_of_every_array():
    whole = split(6, groups=np.array(list("aabbcc")))
    head = whole.head(4)
    np.testing.assert_array_equal(head.x, whole.x[:4])
    np.testing.assert_array_equal(head.y, whole.y[:4])
    assert head.groups.tolist() == list("aabb")


def test_head_without_groups_and_beyond_the_end():
    head = split(3).head(100)
    assert len(head) == 3
    assert head.groups is None


def test_head_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        split().head(0)


def test_describe_names_kind_and_counts():
    assert dataset().describe() == "noise (synthetic: 9 train, 3 validation, 5 test)"
    assert dataset(train=None, validation=None).describe() == "noise (synthetic: 5 test)"


def test_fingerprint_is_16_hexadecimal_digits():
    assert re.fullmatch("[0-9a-f]{16}", dataset().fingerprint())


def test_fingerprint_depends_on_values_alone():
    assert dataset().fingerprint() == dataset().fingerprint()
    other_layout = Split(np.asfortranarray(split(5, 2).x), np.repeat(split(5, 2).y, 2)[::2])
    assert not other_layout.x.flags.c_contiguous and not other_layout.y.flags.c_contiguous
    assert dataset(test=other_layout).fingerprint() == dataset().fingerprint()


def test_fingerprint_is_the_same_in_another_process():
    """A hash that Python salts would differ."""
    code = (
        "import numpy as np; from po2quant.benchmark import Dataset, Split;"
        "print(Dataset('n', 'synthetic', Split(np.ones((2, 3), 'f'), np.ones(2, 'i'))).fingerprint())"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    here = Dataset("n", "synthetic", Split(np.ones((2, 3), "f"), np.ones(2, "i"))).fingerprint()
    assert output.split()[-1] == here


def changed(part: Split, field: str, index: int) -> Split:
    arrays = {"x": part.x.copy(), "y": part.y.copy()}
    flat = arrays[field].reshape(-1)
    flat[index] = np.nextafter(flat[index], np.float32(2)) if field == "x" else flat[index] + 1
    return Split(**arrays)


def test_fingerprint_changes_with_any_sample_or_target():
    whole = dataset()
    fingerprints = [whole.fingerprint()]
    for name, field in itertools.product(("train", "validation", "test"), ("x", "y")):
        part = getattr(whole, name)
        for index in (0, -1):
            fingerprints.append(dataset(**{name: changed(part, field, index)}).fingerprint())
    assert len(set(fingerprints)) == 1 + 3 * 2 * 2


@pytest.mark.parametrize(
    "test",
    [
        Split(split(5, 2).x[::-1], split(5, 2).y[::-1]),
        Split(split(5, 2).x.reshape(5, 2, 3), split(5, 2).y),
        Split(split(5, 2).x.view(np.int32), split(5, 2).y),
        Split(split(5, 2).x, split(5, 2).y.astype(np.int64)),
        split(5, 2).head(4),
    ],
    ids=["order", "shape", "sample dtype", "target dtype", "fewer"],
)
def test_fingerprint_sees(test):
    assert dataset(test=test).fingerprint() != dataset().fingerprint()


def test_fingerprint_sees_which_splits_there_are():
    a, b, c = split(4, 1), split(4, 2), split(4, 3)
    versions = [
        dataset(train=a, validation=b, test=c),
        dataset(train=b, validation=a, test=c),
        dataset(train=a, validation=None, test=c),
        dataset(train=None, validation=None, test=c),
    ]
    assert len({version.fingerprint() for version in versions}) == len(versions)


def test_accuracy_is_the_share_of_largest_outputs_that_are_right():
    outputs = np.array([[0.1, 0.9], [0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    part = Split(np.zeros((4, 1), np.float32), np.array([1, 0, 0, 0]))
    assert accuracy_score(lambda x: outputs, part) == Score("accuracy", 0.75, 4, confusion=((2, 1), (0, 1)))


def test_selection_metrics():
    assert validation_accuracy({"accuracy": 0.7, "loss": 3.0}) == 0.7
    assert inverse_loss({"loss": 0.0}) == 1.0
    assert inverse_loss({"loss": 1.0}) == 0.5
    assert inverse_loss({"loss": 2.0}) == 1 / 1025


def tiny_benchmark() -> Benchmark:
    networks = {"small": NetworkSpec(build=None, placement=None), "large": NetworkSpec(build=None, placement=None)}
    recipe = Recipe("mse", 1, 1, 1, learning_rate=lambda epoch: 0.1)
    return Benchmark("tiny", networks, lambda *_: None, recipe, accuracy_score, validation_accuracy)


def test_first_network_is_the_default():
    benchmark = tiny_benchmark()
    assert benchmark.network() == ("small", benchmark.networks["small"])
    assert benchmark.network("large") == ("large", benchmark.networks["large"])


def test_unknown_network_is_named_with_the_valid_ones():
    with pytest.raises(ValueError, match=r"'tiny' must be one of small, large\. Received: 'medium'"):
        tiny_benchmark().network("medium")


def test_installed_benchmarks_are_found_by_name():
    assert benchmark_names() == INSTALLED
    for name in INSTALLED:
        assert load_benchmark(name).name == name


def test_bundled_benchmarks_are_the_folders_beside_the_package(monkeypatch):
    assert len(INSTALLED) >= 5 and benchmark_folders("benchmarks") == INSTALLED
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [])
    assert benchmark_names() == INSTALLED
    assert (bundled.TASKS, bundled.BEST_CONFIGS) == ("benchmarks", ROOT / "best_configs")


def test_an_installed_package_brings_tasks_and_configurations_of_its_own_names(tmp_path):
    """Beside it may be somebody else's ``benchmarks``."""
    for folder in ("po2quant/best_configs", "benchmarks"):
        (tmp_path / folder).mkdir(parents=True)
    module = tmp_path / "po2quant" / "bundled.py"
    module.write_bytes(Path(bundled.__file__).read_bytes())
    installed = runpy.run_path(str(module))
    assert installed["TASKS"] == "po2quant_benchmarks"
    assert installed["best_config"]("x") == tmp_path / "po2quant" / "best_configs" / "x.json"


@pytest.fixture
def own_package(tmp_path, monkeypatch):
    """A package of two benchmarks, a folder that is none, and one that would complain if it were imported."""
    text = "from po2quant.benchmark import Benchmark\nBENCHMARK = Benchmark('first', {}, None, None, None, None)\n"
    for folder, content in {
        "": "raise RuntimeError('nobody imports me')",
        "first": text,
        "second": "BENCHMARK: object = 1 / 0",
        "helpers": "# BENCHMARK = None",
    }.items():
        (tmp_path / "own_tasks" / folder).mkdir(exist_ok=True, parents=True)
        (tmp_path / "own_tasks" / folder / "__init__.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "own_tasks"
    for name in [name for name in sys.modules if name.startswith("own_tasks")]:
        del sys.modules[name]


@pytest.mark.parametrize("package", ["no_such_package", "no_such_package.tasks", "json.decoder"])
def test_what_is_no_package_has_no_benchmark_folders(package):
    assert benchmark_folders(package) == []


def test_folders_of_a_package_are_found_unimported(own_package, monkeypatch):
    """An entry point is one benchmark, or a package whose folders are benchmarks, by the names of the folders."""
    values = {"other": "own_tasks.first:BENCHMARK", "all-mine": "own_tasks"}
    entries = [importlib.metadata.EntryPoint(*pair, ENTRY_POINT_GROUP) for pair in values.items()]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: entries)
    assert benchmark_folders("own_tasks") == ["first", "second"]
    assert benchmark_names() == sorted(["first", "other", "second", *INSTALLED]) and "own_tasks" not in sys.modules
    with pytest.raises(ValueError, match=r"must be one of .*, first, .*, other, second, .*, or package"):
        load_benchmark("helpers")
    (own_package / "__init__.py").write_text("")
    assert load_benchmark("first").name == load_benchmark("other").name == "first"


def test_a_new_folder_is_a_new_benchmark(own_package):
    (own_package / "third").mkdir()
    (own_package / "third" / "__init__.py").write_text("BENCHMARK = None\n")
    assert benchmark_folders("own_tasks") == ["first", "second", "third"]


def test_names_and_descriptions_need_no_tensorflow():
    command = (
        "import sys; from po2quant.benchmark import *; names = benchmark_names(); "
        "networks = [model for name in names for model in load_benchmark(name).networks]; "
        "import po2quant.cli.options as options; from typing import get_args; "
        "text = get_args(options.WHICH['benchmark'])[1].help; "
        "assert all(name in text for name in names) and len(networks) > 6; "
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0


def test_benchmark_is_found_by_module_and_attribute(tmp_path, monkeypatch):
    (tmp_path / "own_benchmark.py").write_text(
        "from po2quant.benchmark import Benchmark\nMINE = Benchmark('mine', {}, None, None, None, None)\nOTHER = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load_benchmark("own_benchmark:MINE").name == "mine"
    with pytest.raises(ValueError, match=r"'own_benchmark:OTHER' must be a po2quant.*Received: int"):
        load_benchmark("own_benchmark:OTHER")


def refusal(name: str) -> str:
    message = refusals.refusal(load_benchmark, name)
    assert repr(name) in message
    return message


@pytest.mark.parametrize("name", ["digit", "", "DIGITS", "benchmarks.digits"])
def test_unknown_benchmark_lists_the_installed_ones(name):
    message = refusal(name)
    assert ", ".join(INSTALLED) in message and "package.module:attribute" in message


def test_missing_module_is_named():
    assert "no_such_package" in refusal("no_such_package.module:BENCHMARK")


def test_missing_attribute_is_named():
    assert "NO_SUCH" in refusal("benchmarks.digits:NO_SUCH")


@pytest.mark.parametrize("name", [":BENCHMARK", ".digits:BENCHMARK", "benchmarks.digits:", ":", "..:x"])
def test_half_a_name_is_one_sentence(name):
    refusal(name)


def test_epochs_of_the_float_network_hold_for_every_recipe():
    keyword_spotting = load_benchmark("keyword_spotting")
    changed = keyword_spotting.with_float_epochs(3)
    for preset in ("published", "small"):
        before, after = (task.recipe_of("ds_cnn", preset) for task in (keyword_spotting, changed))
        assert before.float_epochs > 3 and after == dataclasses.replace(before, float_epochs=3)
    assert keyword_spotting.with_float_epochs(None) == keyword_spotting
