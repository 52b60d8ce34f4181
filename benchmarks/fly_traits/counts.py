"""Counts the phenotypes of flies in pictures, and compares them with the ratio that a cross should give.

::

    python -m benchmarks.fly_traits.counts a.jpg b.jpg --networks runs/flies --ratio 9:3:3:1 --output-dir counts

Flies are found by ``detector``, cut out of the picture at its own resolution, and told apart by ``classifier``: files
of the folder ``--networks``, ``.keras`` as floats and ``.npz`` as integer programs. Every form is counted: floats,
numpy's integers, LiteRT, C. ``flies.csv`` has a row a fly; ``counts.csv`` a row a form, with the counts of all pictures
together, how many flies it counts otherwise than numpy's integers, and the chi-square test; and each picture is drawn
with what was found.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.patches import Rectangle
from scipy import stats

from po2quant.figures import PALETTE, new_figure
from po2quant.files import one_line, write_csv

from .anatomy import TRAITS
from .boxes import detections, matches
from .cutting import cut, fitted
from .folder import PICTURE_BYTES, decoded
from .generator import PHENOTYPES
from .running import FORMS, INTEGER, NETWORKS, Running, running

PIXEL = np.float32(1 / 255)
NAMES = tuple(" ".join(values[bit] for values, bit in zip(TRAITS.values(), bits, strict=True)) for bits in PHENOTYPES)
"""Of the phenotypes, such as ``long red female``."""


class Flies(NamedTuple):
    """What was found in a picture.

    Args:
        boxes: ``x, y, width, height`` in pixels, float32 ``(flies, 4)``.
        scores: of the detector, float32 ``(flies,)``.
        traits: probabilities of long wings, red eyes and a female, ``(flies, 3)``.
    """

    boxes: np.ndarray
    scores: np.ndarray
    traits: np.ndarray

    @property
    def phenotypes(self) -> np.ndarray:
        """The place of each fly in :data:`NAMES`, int64 ``(flies,)``."""
        return np.sum((self.traits < 0.5) * (4, 2, 1), axis=1)


class Test(NamedTuple):
    """A chi-square test of counts against a ratio.

    Args:
        counts: of each class of the ratio.
        expected: counts that the ratio gives for as many flies.
        chi_square: sum of ``(count - expected)**2 / expected``.
        degrees_of_freedom: one less than there are classes.
        p_value: probability of at least such a sum where the ratio is right.
    """

    counts: np.ndarray
    expected: np.ndarray
    chi_square: float
    degrees_of_freedom: int
    p_value: float


def find_flies(pixels: np.ndarray, detector: Running, classifier: Running) -> Flies:
    """Return the flies of a picture.

    Args:
        pixels: uint8 ``(height, width, 3)``; a fly should be about a twelfth of the longer side.
        detector: gives a logit and the code of a box for each anchor.
        classifier: gives outputs that begin with the probabilities of the three traits.
    """
    square, factor = fitted(pixels, detector.size)
    (output,) = detector.predict(square[None] * PIXEL)
    found = detections(output, square.shape[:2])
    boxes = found.boxes / np.float32(factor)
    traits = np.zeros((0, len(TRAITS)))
    if len(boxes):
        traits = classifier.predict(cut(pixels, boxes, classifier.size) * PIXEL)[:, : len(TRAITS)]
    return Flies(boxes, found.scores, traits)


def count_phenotypes(flies: Sequence[Flies]) -> np.ndarray:
    """Return how many flies of all pictures have each of the :data:`NAMES`, int64 ``(8,)``."""
    return sum((np.bincount(found.phenotypes, minlength=len(NAMES)) for found in flies), np.zeros(len(NAMES), np.int64))


def chi_square(counts: np.ndarray, ratio: Sequence[float]) -> Test:
    """Return Pearson's test of counts against a ratio.

    Args:
        counts: of the eight phenotypes.
        ratio: eight positive numbers, or four of wings and eyes, both sexes together.

    Raises:
        ValueError: for another ratio, or no flies.
    """
    if len(ratio) not in (4, 8) or not all(np.isfinite(share) and share > 0 for share in ratio):
        raise ValueError(f"ratio must be four or eight positive numbers. Received: {':'.join(map(str, ratio))}")
    if counts.sum() == 0:
        raise ValueError("a ratio is compared with the counts of one fly or more. Received: none")
    pooled = counts.reshape(len(ratio), -1).sum(axis=1)
    expected = pooled.sum() * np.asarray(ratio, np.float64) / np.sum(ratio)
    found = stats.chisquare(pooled, expected)
    return Test(pooled, expected, float(found.statistic), len(ratio) - 1, float(found.pvalue))


def counted_otherwise(found: Mapping[str, Flies], others: Mapping[str, Flies]) -> int:
    """Return how many flies of pictures two forms do not both find and call the same."""
    flies = same = 0
    for name, ours in found.items():
        owner = matches(ours.boxes, others[name].boxes)
        hit = owner >= 0
        same += int(np.sum(ours.phenotypes[hit] == others[name].phenotypes[owner[hit]]))
        flies += max(len(ours.boxes), len(others[name].boxes))
    return flies - same


def draw(pixels: np.ndarray, flies: Flies, title: str, path: Path) -> None:
    """Draw what was found in a picture into a file: a colour a phenotype of wings and eyes, females' lines broken."""
    figure = new_figure(title, 7.2, 7.2 * pixels.shape[0] / pixels.shape[1] + 0.9)
    axes = figure.add_subplot()
    axes.imshow(pixels)
    axes.set_axis_off()
    for (x, y, width, height), phenotype in zip(flies.boxes, flies.phenotypes, strict=True):
        line = "--" if PHENOTYPES[phenotype][2] else "-"
        axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=PALETTE[phenotype // 2], linestyle=line))
    counts = count_phenotypes([flies])
    for phenotype, name in enumerate(NAMES):
        line = "--" if PHENOTYPES[phenotype][2] else "-"
        axes.plot([], [], line, color=PALETTE[phenotype // 2], label=f"{name}: {counts[phenotype]}")
    figure.legend(loc="outside upper center", ncols=4, fontsize=7)
    figure.savefig(path)


def count_pictures(
    pictures: Mapping[str, np.ndarray], networks: Path, forms: Sequence[str]
) -> dict[str, dict[str, Flies]]:
    """Return the flies of pictures by form and name of the picture."""
    found: dict[str, dict[str, Flies]] = {}
    for form in forms:
        with ExitStack() as stack:
            detector, classifier = (stack.enter_context(running(networks / name, form)) for name in NETWORKS)
            found[form] = {name: find_flies(pixels, detector, classifier) for name, pixels in pictures.items()}
    return found


def write_tables(
    found: Mapping[str, Mapping[str, Flies]], ratio: Sequence[float], folder: Path
) -> list[dict[str, Any]]:
    """Write ``flies.csv`` and ``counts.csv``, and return the rows of the latter."""
    flies, counts = [], []
    integers = found.get(INTEGER)
    for form, pictures in found.items():
        for name, each in pictures.items():
            for box, score, traits, phenotype in zip(*each, each.phenotypes, strict=True):
                place = dict(zip(("x", "y", "width", "height"), np.round(box.astype(float), 1).tolist(), strict=True))
                likely = dict(zip(TRAITS, np.round(traits.astype(float), 4).tolist(), strict=True))
                row = {"form": form, "picture": name, **place, "score": round(float(score), 4)}
                flies.append({**row, **likely, "phenotype": NAMES[phenotype]})
        total = count_phenotypes(list(pictures.values()))
        test = chi_square(total, ratio)
        counts.append(
            {
                "form": form,
                **dict(zip(NAMES, total.tolist(), strict=True)),
                "otherwise_than_integers": "" if integers is None else counted_otherwise(pictures, integers),
                "ratio": ":".join(f"{share:g}" for share in ratio),
                "chi_square": round(test.chi_square, 4),
                "degrees_of_freedom": test.degrees_of_freedom,
                "p_value": round(test.p_value, 6),
            }
        )
    write_csv(folder / "flies.csv", flies)
    write_csv(folder / "counts.csv", counts)
    return counts


def read_pictures(paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """Return pictures by the names of their files.

    Raises:
        ValueError: for files that are missing, damaged, too large, or have one name.
    """
    pictures = {}
    for path in paths:
        if path.name in pictures:
            raise ValueError(f"pictures must have names of their own. Received: {one_line(path.name)} twice")
        try:
            with open(path, "rb") as file:
                data = file.read(PICTURE_BYTES + 1)
        except OSError as error:
            raise ValueError(f"pictures must be readable. Received: {one_line(error)}") from None
        pictures[path.name] = decoded(data, path.name)
    return pictures


def _ratio(text: str) -> list[float]:
    try:
        return [float(share) for share in text.split(":")]
    except ValueError:
        raise ValueError(f"ratio must be numbers such as 9:3:3:1. Received: {one_line(text)!r}") from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fly_traits.counts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pictures", nargs="+", type=Path, help="JPEG or PNG files")
    parser.add_argument("--networks", type=Path, required=True, help="folder with detector and classifier")
    parser.add_argument("--forms", nargs="+", default=FORMS, choices=FORMS, help="all by default")
    parser.add_argument("--ratio", default="9:3:3:1", help="of four or eight phenotypes, long red first (%(default)s)")
    parser.add_argument("--output-dir", type=Path, default=Path("counts"), help="%(default)s by default")
    options = parser.parse_args(arguments)
    try:
        ratio = _ratio(options.ratio)
        chi_square(np.ones(len(NAMES), np.int64), ratio)  # a wrong ratio is refused before any work
        pictures = read_pictures(options.pictures)
        found = count_pictures(pictures, options.networks, options.forms)
        options.output_dir.mkdir(parents=True, exist_ok=True)
        rows = write_tables(found, ratio, options.output_dir)
        for name, flies in found[options.forms[0]].items():
            draw(pictures[name], flies, f"{name}, {options.forms[0]}", options.output_dir / f"{Path(name).stem}.png")
    except ValueError as error:
        parser.exit(2, f"error: {error}\n")
    for row in rows:
        sys.stdout.write(", ".join(f"{column} {value}" for column, value in row.items()) + "\n")


if __name__ == "__main__":
    main()
