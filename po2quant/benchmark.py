"""What a benchmark is: float models, data, a recipe and a score, found by name.

``po2quant`` never imports the benchmark packages by itself. The bundled ones are found by their folders, those of
others through the entry-point group ``po2quant.benchmarks``, and any through an explicit ``package.module:attribute``.
An entry point names one benchmark, ``mine = package.module:BENCHMARK``, or a package whose folders are benchmarks,
``all-mine = package``.
"""

from __future__ import annotations

import dataclasses
import hashlib
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
from po2quant.files import one_line
from po2quant.placement import Placement
from po2quant.recipe import Recipe as Recipe
from po2quant.targets import Target
from po2quant.uniform import CONFIG_HELP

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

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
class Split:
    """One part of a data set, kept as compactly as it was stored.

    Args:
        x: samples, shape ``(samples, ...)``, numbers; the network sees ``x * scale`` as float32.
        y: targets, shape ``(samples, ...)``, e.g. class indices; of several outputs, a dictionary by their names. None:
            the inputs are the targets.
        groups: one label per sample for scores that are averaged over groups (a machine ID).
        scale: unit of ``x``, e.g. 1 / 255 for pixels in 0..255 of a network that expects 0..1.
        augmented: given sample numbers, int64 ``(batch,)``, and a seed, int32 ``(2,)``, both tensors, returns
            randomly changed inputs of these samples, float32 ``(batch, ...)``, in TensorFlow operations.
        weights: of each sample in the loss; None: all count alike.
    """

    x: np.ndarray
    y: Any
    groups: np.ndarray | None = None
    scale: float = 1.0
    augmented: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        samples = len(self.x)
        groups, weights = (samples if part is None else len(part) for part in (self.groups, self.weights))
        targets = next((len(part) for part in self.targets if len(part) != samples), samples)
        if samples == 0 or not samples == targets == groups == weights:
            raise ValueError(
                "a split needs as many targets and groups as samples, and at least one. "
                f"Received: {samples} samples, {targets} targets, {groups} groups"
            )
        if self.x.dtype.kind == "f" and not np.all(np.isfinite(self.x)):
            bad = int(np.argmin(np.isfinite(self.x).reshape(samples, -1).all(axis=1)))
            raise ValueError(f"the inputs must be finite numbers. Received: NaN or infinity in sample {bad}")

    def __len__(self) -> int:
        return len(self.x)

    @property
    def targets(self) -> list[np.ndarray]:
        """The targets of each output; none where the inputs are the targets."""
        if self.y is None:
            return []
        return list(self.y.values()) if isinstance(self.y, dict) else [self.y]

    def inputs(self, samples: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return network inputs, float32 ``(samples, ...)``: of all samples, or of the given ones."""
        x = self.x[samples].astype(np.float32, copy=False)
        return x if self.scale == 1.0 else x * np.float32(self.scale)

    def head(self, samples: int) -> Split:
        """Return the first ``samples`` samples."""
        return self._chosen(slice(samples))

    def taken(self, samples: np.ndarray) -> Split:
        """Return the samples of these numbers, in this order, without augmentation."""
        return self._chosen(samples).without_augmentation()

    def drawn(self, samples: int, seed: int) -> Split:
        """Return ``samples`` samples drawn at random, or all where there are fewer, in the order of the split."""
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self))[:samples])
        return dataclasses.replace(self._chosen(chosen), augmented=self._augmented_of(chosen))

    def _augmented_of(self, chosen: np.ndarray) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None:
        """Return the random changes of these samples, which then count from 0."""
        if (augmented := self.augmented) is None:
            return None

        def of_chosen(samples: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
            import tensorflow as tf

            return augmented(tf.gather(chosen, samples), seed)

        return of_chosen

    def _chosen(self, samples: np.ndarray | slice) -> Split:
        parts = {name: getattr(self, name) for name in ("x", "y", "groups", "weights")}

        def chosen(part: Any) -> Any:
            return {name: one[samples] for name, one in part.items()} if isinstance(part, dict) else part[samples]

        return dataclasses.replace(self, **{name: chosen(part) for name, part in parts.items() if part is not None})

    def without_augmentation(self) -> Split:
        """Return the same samples, which training then sees unchanged."""
        return dataclasses.replace(self, augmented=None)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Train, validation and test splits and where they come from.

    Args:
        name: what the data are, e.g. ``"Speech Commands V2"``.
        kind: ``"official"``, ``"subset"``, ``"embedded"``, ``"synthetic"`` or ``"own"``; printed beside
            every result.
        test: never used for selection.
        train: absent in test-only archives.
        validation: absent in test-only archives.
    """

    name: str
    kind: str
    test: Split
    train: Split | None = None
    validation: Split | None = None

    def describe(self) -> str:
        """Return the name, the kind and the sample counts in one line."""
        counts = ", ".join(
            f"{len(split)} {part}"
            for part, split in (("train", self.train), ("validation", self.validation), ("test", self.test))
            if split is not None
        )
        return f"{self.name} ({self.kind}: {counts})"

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change when any sample or target changes."""
        digest = hashlib.sha256()
        for part in ("train", "validation", "test"):
            split = getattr(self, part)
            for array in () if split is None else (split.x, *split.targets):
                digest.update(str((part, array.shape, array.dtype)).encode())
                digest.update(np.ascontiguousarray(array).view(np.uint8).data)
        return digest.hexdigest()[:16]


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
