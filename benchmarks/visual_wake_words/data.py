"""Visual wake words data: is a person in the 96 x 96 picture?"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import numpy as np
import tensorflow as tf

from po2quant.benchmark import Dataset, Split
from po2quant.data.archives import Archive, existing_path, find_archive, members, members_by_class
from po2quant.data.budgets import ARCHIVE_IN_MEMORY_BYTES, MEMBER_BYTES, TEXT_BYTES, check_at_most
from po2quant.data.pictures import decode_images
from po2quant.data.splits import mixed_order, validation_indices
from po2quant.files import one_line, parse_json

from ..shared.augment import random_affine
from ..shared.download import Source, fetch
from .coco import CLASSES, PHOTOS, RULES, in_hashed_test, photo_number

IMAGE_SHAPE = (96, 96)
SCALE = np.float32(1 / 255)
FOLDER = "vw_coco2014_96"
OFFICIAL = Source(
    "https://www.silabs.com/public/files/github/machine_learning/benchmarks/datasets/vw_coco2014_96.tar.gz",
    f"{FOLDER}.tar.gz",
    234_810_765,
    "sha256:f8746b9e44f8a7a4293f73be9ba6e8da9239fe69798d42364aae62b915cfab58",
)
"""MLPerf Tiny's pictures. Their publisher states no size and digest: these are what other projects state."""

OFFICIAL_PICTURES = 109_619
OFFICIAL_TESTS = Source(
    "https://raw.githubusercontent.com/mlcommons/tiny/4addd0fa08d216e20637637874e084895f289da4/"
    "benchmark/evaluation/datasets/vww01/y_labels.csv",
    "vww01_y_labels.csv",
    21_000,
    "sha256:3697ca57c48b23b21602ae9bdb32b1925407a1d41d79167cdfb365054cb9c33d",
)
"""MLPerf Tiny's accuracy set: the COCO numbers of 500 pictures of each class."""

ARCHIVES = (FOLDER, "person_96.zip", "coco_person_96.zip")


def download(folder: Path) -> None:
    """Bring MLPerf Tiny's pictures and the list of its test pictures to a folder, unless they are there already."""
    if not (folder / FOLDER).is_dir():
        fetch(OFFICIAL, folder)
    fetch(OFFICIAL_TESTS, folder)


def load(data_dir: Path | None, seed: int = 0) -> Dataset:
    """Return pictures, uint8 ``(samples, 96, 96, 3)`` in 0..255, and classes, int32: 1 for a person.

    Networks see pictures / 255. Training mirrors, rotates (10 degrees), shifts (5 %) and zooms (10 %) them at random,
    as MLPerf Tiny does.

    The test pictures are those of ``test_list.txt``; where there is none, those of ``vww01_y_labels.csv`` in or beside
    the archive; where there is none, a tenth by the hash of their COCO numbers (``coco.in_hashed_test``). Validation
    gets those of ``val_list.txt``, otherwise 10 % of the rest, all crops of one photo on the same side.

    Args:
        data_dir: ``vw_coco2014_96.tar.gz``, which is read in place, ``person_96.zip`` or ``coco_person_96.zip``, an
            extracted folder of one of these, a folder of ``build.build``, or a folder that holds one of all these;
            the first of this order wins.
        seed: of the validation pictures and of the order of the samples.
    """
    with _open(data_dir) as archive:
        names, y = members_by_class(archive, CLASSES, (".jpg", ".jpeg"))
        train, validation, test = (
            (decode_images(archive, [names[member] for member in part], IMAGE_SHAPE), y[part])
            for part in _partition(archive, names, y, seed)
        )
        name, kind = _origin(archive, len(names))
    return Dataset(
        name,
        kind,
        Split(*test, scale=SCALE),
        training_split(*train) if len(train[1]) else None,
        Split(*validation, scale=SCALE) if len(validation[1]) else None,
    )


def training_split(images: np.ndarray, y: np.ndarray) -> Split:
    """Return pictures, uint8 ``(samples, height, width, 3)``, as a split that training sees randomly changed."""
    with tf.device("CPU"):
        stored = tf.constant(images)

    def augmented(samples: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return random_affine(tf.gather(stored, samples), seed, rotation_degrees=10, shift=0.05, zoom=0.1) * SCALE

    return Split(np.asarray(stored), y, scale=SCALE, augmented=augmented)


def photo_of(name: str) -> str:
    """Return the name without its crop: ``person/12_3.jpg`` gives ``person/12``, ``a/b04c.jpg`` ``a/b04``."""
    photo = re.sub(r"/(\d+)_\d+$", r"/\1", str(PurePosixPath(name).with_suffix("")))
    return re.sub(r"(?<=\d)[a-z]+$", "", photo)


class _TarArchive(Archive):
    """The files of MLPerf Tiny's archive, read once, as the same file cannot be read in any order."""

    def __init__(self, path: Path) -> None:
        self.path, self._zip = path, None
        self._contents: dict[str, bytes] = {}
        for member, chunks in members(path, ARCHIVE_IN_MEMORY_BYTES):
            name, content = member.removeprefix("./").removeprefix(f"{FOLDER}/"), b"".join(chunks)
            if name in self._contents:
                raise ValueError(f"an archive must hold each file once. Received: {name} twice in {path}")
            if not PurePosixPath(name).name.startswith("."):
                self._contents[name] = content
        self.names = dict.fromkeys(sorted(self._contents))

    def read(self, name: str, limit_bytes: int | None = None) -> bytes:
        content = self._contents[name]
        check_at_most(f"{name} of {self.path}", "bytes", len(content), limit_bytes or MEMBER_BYTES)
        return content


def _open(data_dir: Path | None) -> Archive:
    path = existing_path(data_dir, "visual_wake_words", f"{OFFICIAL.name} or {' or '.join(ARCHIVES[1:])}")
    tar = path / OFFICIAL.name if path.is_dir() else path
    if tar.is_file() and tar.name.endswith((".tar.gz", ".tgz", ".tar")) and not (path / FOLDER).is_dir():
        return _TarArchive(tar)
    return find_archive(path, "visual_wake_words", ARCHIVES, ("test_list.txt", *CLASSES))


def _origin(archive: Archive, pictures: int) -> tuple[str, str]:
    """Return the name and the kind of the data."""
    if "origin.json" in archive.names:
        try:
            origin = parse_json(archive.read("origin.json", TEXT_BYTES).decode())
            rule, is_whole = origin["rule"], origin["coco_photos"] == PHOTOS
            if rule not in RULES:
                raise ValueError(f"rule {rule!r}")
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"origin.json must be as build wrote it. Received: {archive.path} ({one_line(repr(error))})"
            ) from error
        return f"COCO pictures by the rule {rule}", "official" if is_whole else "subset"
    if "coco_licences.csv" in archive.names:
        return "COCO person pictures", "subset"
    if "test_list.txt" in archive.names:
        return "INRIA person crops", "subset"
    return "MLPerf Tiny's COCO pictures", "official" if pictures == OFFICIAL_PICTURES else "subset"


def _partition(archive: Archive, names: list[str], y: np.ndarray, seed: int) -> tuple[np.ndarray, ...]:
    """Return the indices of the train, validation and test pictures, each in mixed order."""
    in_test = _in_test(archive, names, y)
    if "val_list.txt" in archive.names:
        listed = archive.read_member_list("val_list.txt")
        in_validation = np.array([name in listed for name in names])
        if np.any(in_test & in_validation):
            twice = names[int(np.argmax(in_test & in_validation))]
            raise ValueError(f"a picture must be in one list of {archive.path}. Received: {twice} in two")
        members = np.flatnonzero(~in_test & ~in_validation), np.flatnonzero(in_validation)
        train, validation = (part[mixed_order(y[part], seed)] for part in members)
    else:
        rest = np.flatnonzero(~in_test)
        photos = np.array([photo_of(names[member]) for member in rest])
        train, validation = (rest[part] for part in validation_indices(y[rest], photos, seed=seed))
    test = np.flatnonzero(in_test)
    return train, validation, test[mixed_order(y[test])]


def _in_test(archive: Archive, names: list[str], y: np.ndarray) -> np.ndarray:
    """Return which pictures are for testing, bool ``(pictures,)``."""
    if "test_list.txt" in archive.names:
        listed = archive.read_member_list("test_list.txt")
        return np.array([name in listed for name in names])
    for folder in (archive.path, archive.path.parent):
        if (file := folder / OFFICIAL_TESTS.name).is_file():
            return _listed_by_number(file, archive, names, y)
    return np.array([in_hashed_test(name) for name in names])


def _listed_by_number(file: Path, archive: Archive, names: list[str], y: np.ndarray) -> np.ndarray:
    """Return which pictures a list of MLPerf Tiny has: rows ``<COCO number>.bin,2,<class>``."""
    classes = {photo_number(name): label for name, label in zip(names, y, strict=True)}
    check_at_most(str(file), "bytes", file.stat().st_size, TEXT_BYTES)
    rows = file.read_text(encoding="utf-8", errors="replace").split()
    listed = [re.fullmatch(r"([0-9]{12})\.bin,2,([01])", row) for row in rows]
    for row, match in zip(rows, listed, strict=True):
        if match is None or classes.get(int(match[1])) != int(match[2]):
            raise ValueError(
                f"{file} must list pictures of {archive.path} and their classes. Received: {one_line(row)}"
            )
    numbers = {int(match[1]) for match in listed}
    if len(numbers) < len(listed):
        raise ValueError(f"{file} must list each picture once. Received: {len(listed)} rows, {len(numbers)} pictures")
    return np.array([photo_number(name) in numbers for name in names])
