"""Visual wake words data: is a person in the 96 x 96 picture?"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import numpy as np

from benchmarks.base import (
    Archive,
    decode_images,
    find_archive,
    members_by_class,
    mixed_order,
    validation_indices,
)
from po2quant.benchmark import Dataset, Split

CLASSES = ("non_person", "person")
ARCHIVES = ("person_96.zip", "coco_person_96.zip")
IMAGE_SHAPE = (96, 96)
PIXEL_MAXIMUM = 255.0


def load(data_dir: Path | None, seed: int = 0) -> Dataset:
    """Return pictures, float32 ``(samples, 96, 96, 3)`` in 0..1, and classes, int32: 1 for a person.

    Args:
        data_dir: ``person_96.zip`` or ``coco_person_96.zip``, its extracted folder, or a folder that holds
            them; the first wins where both are. ``test_list.txt`` names the test pictures; 10 % of the
            others are for validation, all crops of one photo on the same side.
        seed: of the validation pictures and of the order of the samples.
    """
    with find_archive(data_dir, "visual_wake_words", ARCHIVES, ("test_list.txt",)) as archive:
        names, y = members_by_class(archive, CLASSES, (".jpg", ".jpeg"))
        testing = archive.read_member_list("test_list.txt")
        in_test = np.array([name in testing for name in names])
        rest, test = np.flatnonzero(~in_test), np.flatnonzero(in_test)
        photos = np.array([photo_of(names[member]) for member in rest])
        train, validation = (rest[part] for part in validation_indices(y[rest], photos, seed=seed))
        test = test[mixed_order(y[test])]
        splits = [_decode(archive, names, y, members) for members in (test, train, validation)]
        source = "COCO person pictures" if "coco_licences.csv" in archive.names else "INRIA person crops"
    return Dataset(source, "subset", *splits)


def photo_of(name: str) -> str:
    """Return the name without its crop: ``person/12_3.jpg`` gives ``person/12``, ``a/b04c.jpg`` ``a/b04``."""
    photo = re.sub(r"/(\d+)_\d+$", r"/\1", str(PurePosixPath(name).with_suffix("")))
    return re.sub(r"(?<=\d)[a-z]+$", "", photo)


def _decode(archive: Archive, names: list[str], y: np.ndarray, members: np.ndarray) -> Split:
    images = decode_images(archive, [names[member] for member in members], IMAGE_SHAPE)
    images /= np.float32(PIXEL_MAXIMUM)
    return Split(images, y[members])
