"""Training of the classifier in stages, on pictures that grow and change more and more.

First the key points, beside which the traits hardly count; then the traits' own layers on a backbone that stays as it
is; then everything at a small rate. Over all of them the pictures grow, and RandAugment and dropout get stronger, since
a network that sees small pictures overfits less (Tan & Le 2021, "EfficientNetV2", arXiv 2104.00298).

``python -m benchmarks.fly_traits.staged --output-dir runs/fly_traits`` draws synthetic flies and trains on them, 4
processor minutes; ``--plain`` is the network without key points. ``po2quant finetune --benchmark fly_traits --weights
runs/fly_traits/best.weights.h5`` goes on from there. ``--preset document`` is the schedule of An et al. 2023, doi
10.16288/j.ycz.22-409, section 3.2: 400 epochs from 64 to 224 pixels.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from po2quant.benchmark import Split
from po2quant.runs.names import BEST_WEIGHTS, EPOCHS_CSV
from po2quant.training.finetune import require_training_data
from po2quant.training.fit import save_weights
from po2quant.training.schedules import cosine
from po2quant.weight_files import load_weights

from . import data
from .augment import RandAugment
from .classifier import FORMS, TRAITS_HEAD, WIDTH, traits_network
from .key_points import decode, encode
from .score import POINT_WEIGHT, TRAIT_COUNT, loss, trait_accuracy, traits_score
from .teacher import TEACHERS, with_hidden_labels, with_pseudo_labels

SIZE_STEP = 8
BATCH_SIZE = 64
DOWN_WEIGHT = 0.05
"""Of the traits while the key points are learned."""


@dataclasses.dataclass(frozen=True)
class Strength:
    """How large pictures are and how much they change: pixels, N and M of RandAugment, and the rate of dropout."""

    size: int
    operations: int
    magnitude: float
    dropout: float

    def towards(self, last: Strength, share: float) -> Strength:
        """Return what lies a share of the way to another one; sizes are multiples of 8."""
        first, end = dataclasses.astuple(self), dataclasses.astuple(last)
        size, operations, magnitude, dropout = (a + share * (b - a) for a, b in zip(first, end, strict=True))
        return Strength(SIZE_STEP * round(size / SIZE_STEP), round(operations), magnitude, dropout)


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of the training.

    Args:
        name: of the stage.
        phases: how often pictures and strength change, beginning with the first phase.
        epochs: of a phase.
        rate: learning rate, given the share of the stage that is done.
        optimizer: made anew for the stage.
        trait_weight: of the traits in the loss.
        point_weight: of the key points in the loss.
        trains_head_only: whether all but the traits' own layers stay as they are.
    """

    name: str
    phases: int
    epochs: int
    rate: Callable[[float], float]
    optimizer: Callable[[float], keras.optimizers.Optimizer] = keras.optimizers.Adam
    trait_weight: float = 1.0
    point_weight: float = 1.0
    trains_head_only: bool = False


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Stages with key points, the one without, and how pictures and strength change over all their phases."""

    stages: tuple[Stage, ...]
    plain: Stage
    first: Strength
    last: Strength

    def strength(self, phase: int) -> Strength:
        """Return the strength of a phase, counted from 0 over all stages."""
        return self.first.towards(self.last, phase / max(self.phases - 1, 1))

    @property
    def phases(self) -> int:
        """The number of phases."""
        return sum(stage.phases for stage in self.stages)

    def without_key_points(self) -> Schedule:
        """Return the schedule of a network without key points."""
        return dataclasses.replace(self, stages=(self.plain,))


def _annealed(rate: float) -> Callable[[float], float]:
    factor = cosine(warm_up=0.05)
    return lambda share: rate * factor(share)


def _stepwise(phases: int, first: float = 0.1) -> Callable[[float], float]:
    """Return the document's rate, which is 0.97 times as large after each phase."""
    return lambda share: first * 0.97 ** math.floor(share * phases)


def _stages(phases: tuple[int, int, int], epochs: int, rates: Sequence[Callable], optimizer: Callable) -> tuple:
    points, head, everything = (
        Stage(name, count, epochs, rate, optimizer)
        for name, count, rate in zip(("points", "head", "all"), phases, rates, strict=True)
    )
    points = dataclasses.replace(points, trait_weight=DOWN_WEIGHT)
    head = dataclasses.replace(head, point_weight=0.0, trains_head_only=True)
    return points, head, dataclasses.replace(everything, point_weight=POINT_WEIGHT)


SCHEDULES = {
    "small": Schedule(
        _stages((2, 1, 1), 4, [_annealed(2e-3), _annealed(2e-3), _annealed(7e-4)], keras.optimizers.Adam),
        Stage("all", 2, 8, _annealed(2e-3)),
        Strength(64, 2, 30, 0.1),
        Strength(80, 4, 50, 0.2),
    ),
    "document": Schedule(
        _stages((32, 8, 40), 5, [_stepwise(32), _stepwise(8), _stepwise(40, 0.02)], keras.optimizers.SGD),
        Stage("all", 80, 5, _stepwise(80), keras.optimizers.SGD),
        Strength(64, 6, 60, 0.0),
        Strength(224, 8, 100, 0.5),
    ),
}


class Changed(keras.utils.PyDataset):
    """Batches of randomly changed pictures, with the key points where they are then.

    Args:
        split: pictures, uint8 ``(flies, size, size, 3)``, and targets, see :func:`.score.targets`.
        strength: sizes and changes.
        seed: of the order and the changes, with the number of the epoch.
        epoch: the first one.
    """

    def __init__(self, split: Split, strength: Strength, seed: int, epoch: int = 0) -> None:
        super().__init__()
        self._split, self._strength, self._seed, self._epoch = split, strength, seed, epoch
        self._change = RandAugment(strength.operations, strength.magnitude)
        self._pictures = resized(split.x, strength.size)

    def __len__(self) -> int:
        return math.ceil(len(self._split) / BATCH_SIZE)

    def on_epoch_end(self) -> None:
        """Go on to the next epoch's order and changes."""
        self._epoch += 1

    def __getitem__(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return pictures in 0..1, float32 ``(batch, size, size, 3)``, and their targets."""
        order = np.random.default_rng((self._seed, self._epoch)).permutation(len(self._split))
        chosen = order[batch * BATCH_SIZE : (batch + 1) * BATCH_SIZE]
        rng = np.random.default_rng((self._seed, self._epoch, batch))
        y = self._split.y[chosen].copy()
        points = decode(y[:, TRAIT_COUNT:])
        pictures = np.empty((len(chosen), *self._pictures.shape[1:]), np.float32)
        for index, fly in enumerate(chosen):
            pictures[index], points[index] = self._change(self._pictures[fly], points[index], rng)
        y[:, TRAIT_COUNT:] = encode(points)
        return pictures * np.float32(self._split.scale), y


def resized(pictures: np.ndarray, size: int) -> np.ndarray:
    """Return pictures of another size, uint8 ``(pictures, size, size, 3)``."""
    if pictures.shape[1] == size:
        return pictures
    shape = size, size
    return np.stack([np.asarray(Image.fromarray(one).resize(shape, Image.Resampling.BILINEAR)) for one in pictures])


def train(network: keras.Model, splits: tuple[Split, Split], schedule: Schedule, folder: Path, seed: int = 0) -> None:
    """Train a classifier that takes pictures of any size, and leave it with the weights of its best epoch.

    Writes ``epochs.csv``, ``<stage>.weights.h5`` after each stage, and ``best.weights.h5``: of the epoch of the last
    stage that tells the traits of the validation pictures best.

    Args:
        network: of :func:`.classifier.traits_network` with ``size=None``.
        splits: training and validation pictures.
        schedule: stages and strengths.
        folder: where the files go.
        seed: of everything that is random, but the weights at the start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / EPOCHS_CSV).unlink(missing_ok=True)
    validation = splits[1].inputs(), splits[1].y
    phase = epoch = 0
    for stage in schedule.stages:
        optimizer = stage.optimizer(stage.rate(0.5))
        callbacks = [
            _Rate(stage, first_epoch=epoch),
            keras.callbacks.CSVLogger(folder / EPOCHS_CSV, append=True),
            keras.callbacks.ModelCheckpoint(
                folder / BEST_WEIGHTS, "val_trait_accuracy", save_best_only=True, save_weights_only=True, mode="max"
            ),
        ]
        for _ in range(stage.phases):
            strength = schedule.strength(phase)
            _prepare(network, stage, strength.dropout, optimizer)
            network.fit(
                Changed(splits[0], strength, seed, epoch),
                validation_data=validation,
                initial_epoch=epoch,
                epochs=epoch + stage.epochs,
                shuffle=False,
                verbose=0,
                callbacks=callbacks,
            )
            phase, epoch = phase + 1, epoch + stage.epochs
        save_weights(network, folder / f"{stage.name}.weights.h5")
    for layer in network.layers:
        layer.trainable = True
    load_weights(network, folder / BEST_WEIGHTS)


class _Rate(keras.callbacks.LearningRateScheduler):
    """Sets the rate of each epoch of a stage, that of its middle."""

    def __init__(self, stage: Stage, first_epoch: int) -> None:
        epochs = stage.phases * stage.epochs
        super().__init__(lambda epoch, _: stage.rate((epoch - first_epoch + 0.5) / epochs))


def _prepare(network: keras.Model, stage: Stage, dropout: float, optimizer: keras.optimizers.Optimizer) -> None:
    """Choose what is trained, set the rate of dropout, and compile."""
    for layer in network.layers:
        layer.trainable = not stage.trains_head_only or layer.name.startswith(TRAITS_HEAD)
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = dropout

    def weighted(y_true: Any, y_pred: Any) -> Any:
        return loss(y_true, y_pred, stage.trait_weight, stage.point_weight)

    network.compile(optimizer, weighted, metrics=[trait_accuracy], jit_compile=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fly_traits.staged", description=__doc__.split("\n")[0])
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path, help="own pictures; synthetic ones are drawn by default")
    parser.add_argument("--form", default="small", choices=FORMS)
    parser.add_argument("--width", type=float, default=WIDTH, help="factor of all channels (%(default)s)")
    parser.add_argument("--plain", action="store_true", help="without key points")
    parser.add_argument("--preset", default="small", choices=SCHEDULES)
    parser.add_argument("--labelled", type=int, help="so many flies keep their labels; all by default")
    parser.add_argument("--teacher", choices=TEACHERS, help="train this larger network, without key points")
    parser.add_argument("--pseudo-labels", type=Path, help="weights of the teacher, which labels the other flies")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    tf.get_logger().setLevel("ERROR")
    schedule = SCHEDULES[options.preset]
    try:
        dataset = data.load(options.data_dir, options.seed, size=schedule.last.size)
        splits = _labelled(require_training_data(dataset), options)
    except ValueError as error:
        parser.exit(2, f"error: {error}\n")
    is_teacher = options.teacher and not options.pseudo_labels
    if options.plain or is_teacher:
        schedule = schedule.without_key_points()
    keras.utils.set_random_seed(options.seed)
    if is_teacher:
        network = TEACHERS[options.teacher]()
    else:
        network = traits_network(FORMS[options.form], not options.plain, options.width, size=None)
    train(network, splits, schedule, options.output_dir, options.seed)
    score = traits_score(lambda x: network.predict(x, verbose=0), dataset.test)
    sys.stdout.write(f"{dataset.describe()}: {score.details}, {options.output_dir / BEST_WEIGHTS}\n")


def _labelled(splits: tuple[Split, Split], options: argparse.Namespace) -> tuple[Split, Split]:
    """Return training flies with the labels that the options leave or add, and those for validation."""
    train_split, validation = splits
    if options.labelled is not None:
        train_split = with_hidden_labels(train_split, options.labelled)
    if options.pseudo_labels is None:
        known = np.any(np.isfinite(train_split.y), axis=1)
        return train_split.taken(np.flatnonzero(known)), validation
    if options.teacher is None:
        raise ValueError("--teacher must name the network of --pseudo-labels. Received: none")
    teacher = TEACHERS[options.teacher]()
    load_weights(teacher, options.pseudo_labels)
    return with_pseudo_labels(train_split, lambda x: teacher.predict(x, verbose=0)), validation


if __name__ == "__main__":
    main()
