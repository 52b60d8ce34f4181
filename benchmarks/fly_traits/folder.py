"""A user's own pictures: a folder or zip file of pictures, boxes as YOLO or COCO write them, and a table of traits.

::

    flies/
      images/a.jpg, b.png     JPEG or PNG, anywhere in the folder
      labels/a.txt, b.txt     YOLO: "class x y width height" a line, middle and size in shares of the picture
      annotations.json        or COCO: images, and annotations with bbox, "x y width height" in pixels
      traits.csv              picture, box, wing, eye, sex, and perhaps key points

A row of ``traits.csv`` is about the box of that number, from 0, in the order of the picture's boxes. Traits are named
as in :data:`~benchmarks.fly_traits.anatomy.TRAITS`; key points are in pixels: ``head_x``, ``head_y``, ``tail_x``,
``tail_y``, ``tip1_x``, ``tip1_y``, ``tip2_x``, ``tip2_y``. What is empty, or has no row, is unknown.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from po2quant.data.archives import Archive
from po2quant.data.budgets import MEMBER_BYTES, TEXT_BYTES, check_at_most
from po2quant.data.pictures import declared_size, decode_picture
from po2quant.files import one_line, parse_json, write_csv

from .anatomy import TRAITS
from .generator import Picture

PICTURES = (".jpg", ".jpeg", ".png")
LABELS, TABLE = ".txt", "traits.csv"
PICTURE_BYTES, PICTURE_PIXELS = MEMBER_BYTES, 2**25
"""Of a picture: a telephone's photo has 12 to 24 million pixels."""
MOST_FLIES = 10_000
"""Of a picture."""
LEAST_PICTURES = 5  # of a user
POINTS = ("head", "tail", "tip1", "tip2")
COLUMNS = ("picture", "box", *TRAITS)
POINT_COLUMNS = tuple(f"{point}_{axis}" for point in POINTS for axis in "xy")


def read_folder(path: Path) -> dict[str, Picture]:
    """Return labelled pictures by their names, with NaN for traits and key points that are not known.

    A picture without boxes in a folder that has some is one without flies.

    Args:
        path: folder or zip file, see above.

    Raises:
        ValueError: in one sentence, for files that are missing, damaged or contradict each other.
    """
    if not path.exists():
        raise ValueError(f"pictures must be a folder or zip file. There is none: {one_line(path)}")
    with Archive(path) as archive:
        names = _by_stem(archive)
        pixels = {stem: decoded(archive.read(name), name) for stem, name in names.items()}
        shapes = {stem: array.shape[:2] for stem, array in pixels.items()}
        boxes = _boxes(archive, names, shapes)
        traits, points = _labels(archive, names, boxes)
    return {names[stem]: Picture(pixels[stem], boxes[stem], traits[stem], points[stem]) for stem in sorted(names)}


def read_parts(path: Path, seed: int) -> tuple[list[Picture], list[Picture], list[Picture]]:
    """Return labelled pictures for training, validation and the test, which has a fifth of them.

    Args:
        path: folder or zip file, see above.
        seed: of the parts.

    Raises:
        ValueError: as :func:`read_folder`, and for less than five pictures.
    """
    pictures = list(read_folder(path).values())
    if len(pictures) < LEAST_PICTURES:
        raise ValueError(f"data must have {LEAST_PICTURES} pictures or more. Received: {len(pictures)}")
    mixed = [pictures[index] for index in np.random.default_rng(seed).permutation(len(pictures))]
    test, validation = len(mixed) // 5, max(len(mixed) // 12, 1)
    return mixed[test + validation :], mixed[test : test + validation], mixed[:test]


def decoded(data: bytes, name: str) -> np.ndarray:
    """Return a JPEG or PNG file as a picture, uint8 ``(height, width, 3)``.

    Raises:
        ValueError: where it is damaged, too long, or declares more than ``PICTURE_PIXELS``.
    """
    check_at_most(name, "bytes", len(data), PICTURE_BYTES)
    height, width = declared_size(data, name)
    check_at_most(name, "pixels", height * width, PICTURE_PIXELS)
    return decode_picture(data, name).numpy()


def encoded(pixels: np.ndarray) -> bytes:
    """Return a picture as a PNG file."""
    import tensorflow as tf

    return tf.io.encode_png(pixels).numpy()


def _by_stem(archive: Archive) -> dict[str, str]:
    """Return the pictures by their names without folder and ending, by which labels belong to them."""
    names: dict[str, str] = {}
    for name in archive.names:
        inner = PurePosixPath(name)
        if inner.suffix.lower() not in PICTURES:
            continue
        if inner.stem in names:
            raise ValueError(f"pictures must have names of their own. Received: {names[inner.stem]} and {name}")
        names[inner.stem] = name
    if not names:
        raise ValueError(f"a folder must hold pictures ({', '.join(PICTURES)}). Received: {archive.path} without any")
    return names


def _boxes(archive: Archive, names: Mapping[str, str], shapes: Mapping[str, tuple[int, int]]) -> dict[str, np.ndarray]:
    """Return the COCO boxes of every picture."""
    files = [name for name in archive.names if name.lower().endswith(".json")]
    texts = {PurePosixPath(name).stem: name for name in archive.names if name.lower().endswith(LABELS)}
    texts = {stem: name for stem, name in texts.items() if stem in names}
    if len(files) + bool(texts) != 1:
        received = ", ".join([*files, *([f"{len(texts)} .txt files"] if texts else [])]) or "neither"
        raise ValueError(
            f"boxes must be in one .json file of COCO, or in .txt files of YOLO that are named like the pictures. "
            f"Received: {one_line(received)}"
        )
    found = (
        _coco(archive, files[0], names)
        if files
        else {stem: _yolo(archive, name, shapes[stem]) for stem, name in texts.items()}
    )
    arrays = {stem: np.array(found.get(stem, []), np.float32).reshape(-1, 4) for stem in names}
    for stem, array in arrays.items():
        _check_boxes(array, shapes[stem], names[stem])
    return arrays


def write_folder(path: Path, pictures: Mapping[str, Picture]) -> None:
    """Write labelled pictures as a folder that :func:`read_folder` reads, with YOLO's boxes.

    Args:
        path: the folder; what it has of these names is replaced.
        pictures: by the names of their files without ending.
    """
    rows: list[dict[str, Any]] = []
    for part in ("images", "labels"):
        (path / part).mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        (path / "images" / f"{name}.png").write_bytes(encoded(picture.pixels))
        height, width = picture.pixels.shape[:2]
        shares = np.concatenate((picture.boxes[:, :2] + picture.boxes[:, 2:] / 2, picture.boxes[:, 2:]), axis=1)
        lines = [" ".join(("0", *map(str, line))) for line in shares / (width, height, width, height)]
        (path / "labels" / f"{name}{LABELS}").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for box, (traits, points) in enumerate(zip(picture.traits, picture.key_points, strict=True)):
            values = {trait: TRAITS[trait][int(value)] for trait, value in zip(TRAITS, traits, strict=True)}
            places = dict(zip(POINT_COLUMNS, points.ravel().round(2).tolist(), strict=True))
            rows.append({"picture": f"{name}.png", "box": box, **values, **places})
    write_csv(path / TABLE, rows)


def _check_boxes(boxes: np.ndarray, shape: tuple[int, int], name: str) -> None:
    check_at_most(name, "boxes", len(boxes), MOST_FLIES)
    limits = np.array((shape[1], shape[0], shape[1], shape[0])) + 1.0  # of rounding
    corners = np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), axis=1)
    wrong = np.any((corners < -1) | (corners > limits), axis=1) | np.any(boxes[:, 2:] <= 0, axis=1)
    if wrong.any():
        box = boxes[np.argmax(wrong)].tolist()
        raise ValueError(f"boxes of {name} must lie within its {shape[1]} x {shape[0]} pixels. Received: {box}")


def _yolo(archive: Archive, name: str, shape: tuple[int, int]) -> list[list[float]]:
    boxes = []
    for line in archive.read_lines(name):
        numbers = [_number(word) for word in line.split()]
        if len(numbers) != 5 or not all(0 <= number <= 1 for number in numbers[1:]):
            raise ValueError(
                f"{name} must have lines of a class and x, y, width and height in 0..1. Received: {one_line(line)!r}"
            )
        x, y, width, height = np.array(numbers[1:]) * (shape[1], shape[0], shape[1], shape[0])
        boxes.append([x - width / 2, y - height / 2, width, height])
    return boxes


def _coco(archive: Archive, file: str, names: Mapping[str, str]) -> dict[str, list[list[float]]]:
    try:
        content = parse_json(archive.read(file).decode("utf-8"))
        images = {record["id"]: PurePosixPath(record["file_name"]).stem for record in content["images"]}
        records = [(record["image_id"], record["bbox"]) for record in content["annotations"]]
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}, {one_line(error)}"
        raise ValueError(f"{file} must be COCO's JSON, with images and annotations. Received: {reason}") from None
    boxes: dict[str, list[list[float]]] = {}
    for image, box in records:
        stem = images.get(image) if isinstance(image, int | str) else None
        if stem not in names:
            raise ValueError(f"{file} must have boxes of pictures that are there. Received: image_id={one_line(image)}")
        if not isinstance(box, list) or len(box) != 4 or not all(type(side) in (int, float) for side in box):
            raise ValueError(f"{file} must have a bbox of four numbers. Received: {one_line(box)}")
        boxes.setdefault(stem, []).append(box)
    return boxes


def _labels(
    archive: Archive, names: Mapping[str, str], boxes: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return traits and key points of every picture, NaN where they are not known."""
    traits = {stem: np.full((len(array), len(TRAITS)), np.nan, np.float32) for stem, array in boxes.items()}
    points = {stem: np.full((len(array), len(POINTS), 2), np.nan, np.float32) for stem, array in boxes.items()}
    tables = [name for name in archive.names if PurePosixPath(name).name == TABLE]
    if len(tables) > 1:
        raise ValueError(f"there must be one {TABLE}. Received: {', '.join(tables)}")
    seen = set()
    for row in _rows(archive, tables[0]) if tables else []:
        stem, box = PurePosixPath(row["picture"]).stem, row["box"]
        if stem not in names:
            raise ValueError(f"{TABLE} must name pictures that are there. Received: {one_line(row['picture'])!r}")
        if not box.isascii() or not box.isdigit() or int(box[:9]) >= len(boxes[stem]):
            raise ValueError(
                f"{TABLE} must number the boxes of {stem} from 0 to {len(boxes[stem]) - 1}. Received: {one_line(box)!r}"
            )
        if (stem, int(box)) in seen:
            raise ValueError(f"{TABLE} must have one row for each box. Received: two of box {box} of {stem}")
        seen.add((stem, int(box)))
        traits[stem][int(box)] = [_trait(trait, row[trait]) for trait in TRAITS]
        if POINT_COLUMNS[0] in row:
            points[stem][int(box)] = _points(row)
    return traits, points


def _rows(archive: Archive, name: str) -> list[dict[str, str]]:
    text = archive.read(name, TEXT_BYTES).decode("utf-8-sig", errors="replace")
    try:
        header, *lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line] or [[]]
    except csv.Error as error:
        raise ValueError(f"{name} must be a CSV file. Received: {one_line(error)}") from None
    if set(header) not in (set(COLUMNS), {*COLUMNS, *POINT_COLUMNS}) or len(set(header)) != len(header):
        raise ValueError(
            f"{name} must have the columns {', '.join(COLUMNS)}, and perhaps {', '.join(POINT_COLUMNS)}. "
            f"Received: {one_line(', '.join(header))}"
        )
    if ragged := [line for line in lines if len(line) != len(header)]:
        raise ValueError(f"{name} must have {len(header)} values a row. Received: {one_line(', '.join(ragged[0]))}")
    return [dict(zip(header, map(str.strip, line), strict=True)) for line in lines]


def _trait(trait: str, text: str) -> float:
    if text and text not in TRAITS[trait]:
        raise ValueError(f"{trait} must be {' or '.join(TRAITS[trait])}, or empty. Received: {one_line(text)!r}")
    return float(TRAITS[trait].index(text)) if text else math.nan


def _points(row: Mapping[str, str]) -> np.ndarray:
    """Return the key points of a row, which has all of them or none."""
    texts = [row[column] for column in POINT_COLUMNS]
    numbers = np.array([_number(text) if text else math.nan for text in texts], np.float32)
    is_complete = all(texts) and bool(np.all(np.isfinite(numbers)))
    if any(texts) and not is_complete:
        raise ValueError(f"{TABLE} must have all key points of a box in pixels, or none. Received: {one_line(texts)}")
    return numbers.reshape(len(POINTS), 2)


def _number(text: Any) -> float:
    """Return a number, NaN for a text that is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
