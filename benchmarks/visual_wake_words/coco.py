"""Which photos of COCO show a person, by the rules of MLPerf Tiny and of the Visual Wake Words paper."""

from __future__ import annotations

import hashlib
import json
import math
import re
import reprlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from po2quant.data.budgets import ANNOTATION_BYTES, ANNOTATION_RECORDS, NAME_CHARACTERS, check_at_most
from po2quant.files import one_line

CLASSES = ("non_person", "person")
YEARS = ("2014", "2017")
PARTS = ("train", "val")
PHOTOS = 123_287
"""Photos of the train and validation parts together, the same ones in both years."""

LARGEST_SIDE_PIXELS = 2**16
"""Of a photo or a box: more than a JPEG file can have."""
_PICTURE_NAME = re.compile(r"\w[\w.-]*\.jpe?g", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Rule:
    """When a photo shows a person.

    Args:
        smallest_share: a photo with a person larger than this share of its area is of class ``person``.
        measure: the area of a person: of the ``"box"`` around it, or of its ``"outline"``.
        crowds: whether several people annotated as one count as a person.
        smaller: class of photos with smaller persons only; None leaves them out.
    """

    smallest_share: float
    measure: str
    crowds: bool
    smaller: str | None

    def class_of(self, shares: Sequence[float]) -> str | None:
        """Return the class of a photo whose persons have these shares of its area; None leaves it out."""
        if any(share > self.smallest_share for share in shares):
            return "person"
        return self.smaller if shares else "non_person"


RULES: Mapping[str, Rule] = {
    "mlperf_tiny": Rule(0.025, "box", crowds=False, smaller=None),
    "visual_wake_words": Rule(0.005, "outline", crowds=True, smaller="non_person"),
}


@dataclass(frozen=True)
class Photo:
    """A photo of COCO.

    Args:
        path: of the JPEG file; its name is unique in COCO.
        label: ``"person"``, ``"non_person"``, or None for one that the rule leaves out.
        licence: name of its licence.
        url: where its author published it.
    """

    path: Path
    label: str | None
    licence: str
    url: str


def photo_number(name: str) -> int | None:
    """Return the COCO number that a file name ends with: 9 for ``person/COCO_train2014_000000000009.jpg``."""
    digits = re.search(r"[0-9]+$", PurePosixPath(name).stem)
    return int(digits.group()) if digits else None


def in_hashed_test(name: str) -> bool:
    """Return whether a photo is of the tenth that is for testing where no list says so.

    That is where the first four bytes of the SHA-256 of its 12-digit COCO number (of another name: of the name) are a
    multiple of 10, so that a photo is on the same side in every form of the data.
    """
    number = photo_number(name)
    text = PurePosixPath(name).stem if number is None else f"{number:012d}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) % 10 == 0


def read_photos(coco_dir: Path, rule: Rule) -> list[Photo]:
    """Return all photos of a COCO folder, with the classes that a rule gives them.

    Args:
        coco_dir: holds ``annotations/instances_train2014.json``, ``annotations/instances_val2014.json`` and the
            pictures in ``train2014/`` and ``val2014/``; or the same of 2017; one part is enough.
        rule: one of ``RULES``.
    """
    for year in YEARS:
        files = {part: coco_dir / "annotations" / f"instances_{part}{year}.json" for part in PARTS}
        found = [(file, coco_dir / f"{part}{year}") for part, file in files.items() if file.is_file()]
        if found:
            return [photo for file, pictures in found for photo in _read_part(file, pictures, rule)]
    raise ValueError(
        "--coco-dir must hold annotations/instances_train2014.json and annotations/instances_val2014.json, or those "
        f"of 2017. Received: {coco_dir}, without any of them"
    )


def _read_part(file: Path, pictures: Path, rule: Rule) -> Iterator[Photo]:
    content = _read_json(file)
    images, annotations, categories = _values(content, ("images", "annotations", "categories"), file)
    licences = {str(number): name for number, name in _each(content.get("licenses", []), ("id", "name"), file)}
    person = next((number for number, name in _each(categories, ("id", "name"), file) if name == "person"), None)
    if person is None:
        raise ValueError(f"{file} must have the category person. Received: none of that name")
    persons = _person_areas(annotations, person, rule, file)
    for image in _records(images, file):
        number, name, width, height = _values(image, ("id", "file_name", "width", "height"), file)
        if (photo_area := _area((width, height), image, file)) == 0:
            raise ValueError(f"{file} must have photos with pixels. Received: {_shown(image)}")
        shares = [area / photo_area for area in persons.get(str(number), ())]
        url = one_line(image.get("flickr_url") or image.get("coco_url") or "")
        licence = one_line(licences.get(str(image.get("license")), ""))
        yield Photo(pictures / _plain_name(name, file), rule.class_of(shares), licence, url)


def _person_areas(annotations: Any, person: Any, rule: Rule, file: Path) -> Mapping[str, Sequence[float]]:
    """Return the areas in pixels of the persons that count, by the number of the photo."""
    areas: dict[str, list[float]] = defaultdict(list)
    fields = ("image_id", "category_id", "iscrowd", "bbox" if rule.measure == "box" else "area")
    for annotation in _records(annotations, file):
        number, category, is_crowd, extent = _values(annotation, fields, file)
        if category == person and (rule.crowds or not is_crowd):
            sides = [extent]
            if rule.measure == "box":
                sides = extent[2:] if isinstance(extent, list) and len(extent) == 4 else [None]
            areas[str(number)].append(_area(sides, annotation, file))
    return areas


def _read_json(file: Path) -> Any:
    check_at_most(str(file), "bytes", file.stat().st_size, ANNOTATION_BYTES)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file} must be readable. Received: {one_line(error)}") from error
    check_at_most(str(file), "lists and objects", data.count(b"[") + data.count(b"{"), ANNOTATION_RECORDS)
    try:
        return json.loads(data)
    except (ValueError, RecursionError, MemoryError) as error:
        reason = f"{type(error).__name__}, {one_line(error)}"
        raise ValueError(f"{file} must be COCO's JSON. Received: {reason}") from error


def _records(records: Any, file: Path) -> list[dict[str, Any]]:
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise ValueError(f"{file} must hold lists of COCO's records. Received: {_shown(records)}")
    return records


def _each(records: Any, fields: Sequence[str], file: Path) -> Iterator[list[Any]]:
    return (_values(record, fields, file) for record in _records(records, file))


def _values(record: Any, fields: Sequence[str], file: Path) -> list[Any]:
    if not isinstance(record, dict) or not all(field in record for field in fields):
        raise ValueError(f"{file} must have {', '.join(fields)}, as COCO has. Received: {_shown(record)}")
    return [record[field] for field in fields]


def _area(sides: Sequence[Any], record: Mapping[str, Any], file: Path) -> float:
    """Return the product of side lengths, which must be finite numbers and not negative."""
    limit = LARGEST_SIDE_PIXELS if len(sides) > 1 else LARGEST_SIDE_PIXELS**2
    if not all(type(side) in (int, float) and 0 <= side <= limit for side in sides):
        raise ValueError(f"{file} must have sizes in pixels. Received: {_shown(record)}")
    return math.prod(sides)


def _plain_name(name: Any, file: Path) -> str:
    """Return a file name, which must not lead to another folder."""
    if not isinstance(name, str) or not _PICTURE_NAME.fullmatch(name) or len(name) > NAME_CHARACTERS:
        raise ValueError(f"{file} must name pictures like COCO_train2014_000000000009.jpg. Received: {_shown(name)}")
    return name


def _shown(value: Any) -> str:
    return one_line(reprlib.repr(value))
