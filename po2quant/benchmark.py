"""What a benchmark is: float models, data, a recipe and a score, found by name.

``po2quant`` never imports the benchmark packages by itself. The bundled ones are found by their folders, those of
others through the entry-point group ``po2quant.benchmarks``, and any through an explicit ``package.module:attribute``.
An entry point names one benchmark, ``mine = package.module:BENCHMARK``, or a package whose folders are benchmarks,
``all-mine = package``.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from po2quant import bundled
from po2quant.bit_config import MPQ, TRIAL_CONFIG, TRIALS_FOLDER
from po2quant.data.splits import Dataset as Dataset
from po2quant.data.splits import Split as Split
from po2quant.files import one_line
from po2quant.placement import Placement
from po2quant.recipe import Recipe as Recipe
from po2quant.targets import Target
from po2quant.uniform import CONFIG_HELP

if TYPE_CHECKING:
    import keras

    from po2quant.network import FoldedNetwork


ENTRY_POINT_GROUP = "po2quant.benchmarks"
FOLDER_ATTRIBUTE = "BENCHMARK"
_IN_FOLDER = re.compile(rf"^{FOLDER_ATTRIBUTE}\s*[:=]", re.MULTILINE)
PUBLISHED = "published"


def point_of_search(name: str) -> Path | None:
    """Return the configuration of a trial that ``RUN:trial`` names, None where it names none."""
    run, _, trial = name.rpartition(":")
    file = Path(run) / TRIALS_FOLDER / trial / TRIAL_CONFIG
    return file if run and trial.isalnum() and file.is_file() else None


@dataclasses.dataclass(frozen=True)
class Score:
    """The result of a network on a split.

    Args:
        metric: name of the main metric, e.g. ``"accuracy"``.
        value: the main metric; larger is better.
        samples: how many samples it was measured on.
        details: further metrics by name.
        confusion: how many samples of each class (row) were taken for each class (column); empty without classes.
    """

    metric: str
    value: float
    samples: int
    details: Mapping[str, float] = dataclasses.field(default_factory=dict)
    confusion: tuple[tuple[int, ...], ...] = ()


@dataclasses.dataclass(frozen=True)
class NetworkSpec:
    """A float network of a benchmark.

    Args:
        build: returns the untrained float model.
        placement: what the rules of quantizer placement leave open for it.
        mpq_config: file of its mixed-precision configuration.
        recipes: recipes by preset; ``"published"`` is the benchmark's where it is not here.
    """

    build: Callable[[], keras.Model]
    placement: Placement
    mpq_config: Path | None = None
    recipes: Mapping[str, Recipe] = dataclasses.field(default_factory=dict)

    def config_file(self, name: str) -> Path:
        """Return the file that ``mpq``, or a path, stands for.

        Raises:
            ValueError: where there is none.
        """
        if name != MPQ:
            if (point := point_of_search(name)) is not None:
                return point
            if not os.path.isfile(name):
                raise ValueError(f"config must be {CONFIG_HELP}. Received: {one_line(repr(name))}, which is no file")
            return Path(name)
        if self.mpq_config is None:
            raise ValueError(
                f"this model has no mpq configuration yet: search one, then pass its file. Valid: {CONFIG_HELP}"
            )
        return self.mpq_config

    def new_network(self) -> keras.Model:
        """Return the untrained float model; layers without names of their own get the same ones every time."""
        from keras.src.utils.naming import reset_uids

        reset_uids()
        return self.build()

    def for_target(self, target: Target) -> NetworkSpec:
        """Return the same network for a target."""
        return dataclasses.replace(self, placement=dataclasses.replace(self.placement, target=target))

    def fold(self) -> FoldedNetwork:
        """Return the description of a new network, untrained."""
        from po2quant.network import fold

        return fold(self.new_network(), self.placement)


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A task: networks, data, recipe and scores.

    Args:
        name: e.g. ``"keyword_spotting"``.
        networks: float networks by model name; the first is the default.
        load_data: given the folder or file of the data (or None) and a seed, returns the data set.
        recipe: how networks are trained, unless their own recipes say otherwise.
        score: given a function from inputs to outputs, and a split, returns the score.
        selection: given the validation logs (``loss`` and the recipe's metrics), returns the value
            that training and search maximise, in [0, 1] for the forgiving factor.
        download: given a folder, brings the official data set there, unless it is there already.
        synthesize: given a seed, returns generated data of the same shapes, of kind ``"synthetic"``.
        loaded_as: what :func:`load_benchmark` found it by.
        needs_data_dir: whether there are no data without a folder or file of them.
        npz_files: names of ``.npz`` files that ``load_data`` reads; others hold what the network sees.
    """

    name: str
    networks: Mapping[str, NetworkSpec]
    load_data: Callable[[Path | None, int], Dataset]
    recipe: Recipe
    score: Callable[[Callable[[np.ndarray], np.ndarray], Split], Score]
    selection: Callable[[Mapping[str, float]], float]
    download: Callable[[Path], None] | None = None
    synthesize: Callable[[int], Dataset] | None = None
    loaded_as: str | None = None
    needs_data_dir: bool = False
    npz_files: tuple[str, ...] = ()

    def for_target(self, target: Target) -> Benchmark:
        """Return the task with networks that a target computes."""
        networks = {name: spec.for_target(target) for name, spec in self.networks.items()}
        return dataclasses.replace(self, networks=networks)

    def with_float_epochs(self, epochs: int | None) -> Benchmark:
        """Return the task with recipes that train the float network for so many epochs; None: as they say."""
        if epochs is None:
            return self

        def changed(recipe: Recipe) -> Recipe:
            return dataclasses.replace(recipe, float_epochs=epochs)

        networks = {
            name: dataclasses.replace(spec, recipes={key: changed(recipe) for key, recipe in spec.recipes.items()})
            for name, spec in self.networks.items()
        }
        return dataclasses.replace(self, recipe=changed(self.recipe), networks=networks)

    def recipe_of(self, model: str, preset: str = PUBLISHED) -> Recipe:
        """Return the recipe of a model under a preset."""
        recipes = {PUBLISHED: self.recipe, **self.network(model)[1].recipes}
        if preset not in recipes:
            raise ValueError(f"preset of {self.name} {model} must be one of {', '.join(recipes)}. Received: {preset!r}")
        return recipes[preset]

    def network(self, model: str | None = None) -> tuple[str, NetworkSpec]:
        """Return name and specification of a model, the default one for None."""
        name = next(iter(self.networks)) if model is None else model
        if name not in self.networks:
            raise ValueError(
                f"model of benchmark {self.name!r} must be one of {', '.join(self.networks)}. Received: {name!r}"
            )
        return name, self.networks[name]


def accuracy_score(predict: Callable[[np.ndarray], np.ndarray], split: Split) -> Score:
    """Return the share of samples whose largest output is their class, and the confusion matrix."""
    outputs = predict(split.inputs())
    predicted, classes = np.argmax(outputs, axis=-1), outputs.shape[-1]
    counts = np.bincount(split.y * classes + predicted, minlength=classes**2).reshape(classes, classes)
    confusion = tuple(tuple(row) for row in counts.tolist())
    return Score("accuracy", float(np.mean(predicted == split.y)), len(split), confusion=confusion)


def validation_accuracy(logs: Mapping[str, float]) -> float:
    """Return the validation accuracy."""
    return logs["accuracy"]


def inverse_loss(logs: Mapping[str, float]) -> float:
    """Return ``1 / (1 + loss**10)``, the study's metric where accuracy means nothing."""
    return 1.0 / (1.0 + logs["loss"] ** 10)


def benchmark_names() -> list[str]:
    """Return the names of the installed benchmarks; none of them is imported."""
    return sorted(_installed())


def benchmark_folders(package: str) -> list[str]:
    """Return the folders of a package that are benchmarks: whose ``__init__.py`` assigns ``BENCHMARK``.

    The files are read, not imported.
    """
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # no parent, or no spec
        spec = None
    places = (spec.submodule_search_locations if spec else None) or ()
    files = [file for place in places for file in Path(place).glob("*/__init__.py")]
    return sorted(
        file.parent.name for file in files if _IN_FOLDER.search(file.read_text(encoding="utf-8", errors="replace"))
    )


def _installed() -> dict[str, importlib.metadata.EntryPoint]:
    found = {}
    own = importlib.metadata.EntryPoint("bundled", bundled.TASKS, ENTRY_POINT_GROUP)
    for entry in (*importlib.metadata.entry_points(group=ENTRY_POINT_GROUP), own):
        if entry.attr:
            found[entry.name] = entry
            continue
        for folder in benchmark_folders(entry.module):
            value = f"{entry.module}.{folder}:{FOLDER_ATTRIBUTE}"
            found[folder] = importlib.metadata.EntryPoint(folder, value, ENTRY_POINT_GROUP)
    return found


def deferred(name: str) -> Callable[..., Any]:
    """Return a function that is imported when it is called: what needs TensorFlow does not slow a wrong option down.

    Args:
        name: ``package.module:function``, of the caller's own code.

    Example:
        >>> deferred("math:sqrt")(4.0)
        2.0
    """
    module, _, attribute = name.partition(":")
    return lambda *arguments, **options: getattr(importlib.import_module(module), attribute)(*arguments, **options)


def is_module_attribute(name: str) -> bool:
    """Return whether a benchmark is named as ``package.module:attribute``: to load it runs that module."""
    return ":" in name


def check_benchmark_name(name: str) -> None:
    """Raise ValueError unless ``name`` is an installed benchmark's or ``package.module:attribute``."""
    names = benchmark_names()
    if name not in names and not is_module_attribute(name):
        raise ValueError(
            f"benchmark must be one of {', '.join(names)}, or package.module:attribute. "
            f"Received: {one_line(repr(name))}"
        )


def load_benchmark(name: str) -> Benchmark:
    """Return an installed benchmark by name, or any by ``package.module:attribute``.

    Raises:
        ValueError: where there is no such benchmark, naming the installed ones.
    """
    check_benchmark_name(name)
    if not is_module_attribute(name):
        return _installed()[name].load()
    module, _, attribute = name.partition(":")
    try:
        benchmark = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"cannot load benchmark {name!r}: {' '.join(str(error).split())}") from None
    if not isinstance(benchmark, Benchmark):
        raise ValueError(f"{name!r} must be a po2quant.benchmark.Benchmark. Received: {type(benchmark).__name__}")
    return dataclasses.replace(benchmark, loaded_as=name)
