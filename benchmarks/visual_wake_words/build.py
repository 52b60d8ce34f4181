"""Visual wake words built from COCO: ``python -m benchmarks.visual_wake_words.build --help``."""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf

from po2quant.data.budgets import PHOTO_BYTES, PHOTO_PIXELS, TEXT_BYTES, check_at_most
from po2quant.data.pictures import declared_size, decode_picture
from po2quant.data.splits import validation_indices
from po2quant.files import one_line, open_replacement, replaced_whole
from po2quant.progress import progress_line

from .coco import CLASSES, RULES, Photo, in_hashed_test, photo_number, read_photos

IMAGE_SHAPE = (96, 96)
JPEG_QUALITY = 75
TEST_LIST = "test_list.txt"
VALIDATION_LIST = "val_list.txt"
LICENCES = "coco_licences.csv"
ORIGIN = "origin.json"
INTERRUPTED = 130


def build(
    coco_dir: Path, output_dir: Path, rule: str = "mlperf_tiny", test_ids: Path | None = None, seed: int = 0
) -> Mapping[str, int]:
    """Write the photos of COCO that a rule keeps as ``person|non_person/<COCO file name>``, 96 x 96 pixels.

    Beside them stand ``test_list.txt``, ``val_list.txt`` (the rest is for training), ``coco_licences.csv`` with the
    licence of every photo, and ``origin.json``. ``output_dir`` appears once all is there; until then the pictures are
    in ``unfinished-<name>`` beside it, where the next call goes on.

    Args:
        coco_dir: COCO 2014 or 2017, see ``coco.read_photos``.
        output_dir: the new folder.
        rule: ``"mlperf_tiny"`` (a box over 2.5 % of the photo is a person; photos with smaller persons only are left
            out) or ``"visual_wake_words"`` (an outline over 0.5 %; photos with smaller persons only have none).
        test_ids: text file that begins each line with the COCO number of a test photo, such as MLPerf Tiny's
            ``y_labels.csv`` or TensorFlow's ``mscoco_minival_ids.txt``; without it a tenth, see ``in_hashed_test``.
        seed: of the tenth of the other photos that is for validation.

    Returns:
        The number of pictures of each class, and of photos ``left_out``.

    Raises:
        ValueError: where COCO is incomplete or damaged, or the folder cannot be written.
    """
    if rule not in RULES:
        raise ValueError(f"--rule must be one of {', '.join(RULES)}. Received: {rule!r}")
    if output_dir.exists() and not (output_dir.is_dir() and not any(output_dir.iterdir())):
        raise ValueError(f"--output-dir must be new or empty. Received: {output_dir}")
    photos = read_photos(coco_dir, RULES[rule])
    kept = _by_name(photos)
    tests = _test_pictures(kept, photos, test_ids)
    unfinished = output_dir.with_name(f"unfinished-{output_dir.name}")
    try:
        _write_pictures(unfinished, kept)
        _write_lists(unfinished, kept, tests, seed)
        origin = {"rule": rule, "coco_photos": len(photos), "test_ids": test_ids and test_ids.name, "seed": seed}
        with open_replacement(unfinished / ORIGIN) as file:
            json.dump(origin, file, indent=2)
        if output_dir.exists():
            output_dir.rmdir()
        os.replace(unfinished, output_dir)
    except OSError as error:
        raise ValueError(f"--output-dir must be writable and have room. Received: {one_line(error)}") from error
    return Counter(photo.label or "left_out" for photo in photos)


def _by_name(photos: Sequence[Photo]) -> dict[str, Photo]:
    """Return the photos of a class by the names of their pictures, sorted."""
    kept = {f"{photo.label}/{photo.path.name}": photo for photo in photos if photo.label}
    if len({photo.path.name for photo in photos}) < len(photos):
        repeated = Counter(photo.path.name for photo in photos).most_common(1)[0][0]
        raise ValueError(f"the annotations must name each photo once. Received: {repeated} twice")
    classes = sorted({photo.label for photo in kept.values()})
    if len(classes) < 2:
        raise ValueError(f"the photos must show persons and no persons. Received: {len(kept)} photos, {classes}")
    return dict(sorted(kept.items()))


def _test_pictures(kept: Mapping[str, Photo], photos: Sequence[Photo], test_ids: Path | None) -> frozenset[str]:
    if test_ids is None:
        return frozenset(filter(in_hashed_test, kept))
    try:
        size_bytes = test_ids.stat().st_size
        lines = test_ids.read_text(encoding="utf-8-sig").splitlines() if size_bytes <= TEXT_BYTES else []
    except (OSError, ValueError) as error:
        reason = one_line(error)
        raise ValueError(f"--test-ids must be a readable text file. Received: {test_ids} ({reason})") from error
    check_at_most(str(test_ids), "bytes", size_bytes, TEXT_BYTES)
    numbers = {photo_number(photo.path.name) for photo in photos}
    listed = set()
    for line in filter(str.strip, lines):
        number = re.fullmatch(r"\s*([0-9]{1,12})(\.(bin|jpg)\b.*)?\s*", line)
        if number is None or int(number.group(1)) not in numbers:
            raise ValueError(f"--test-ids must list COCO photos of --coco-dir. Received: {line[:80]!r} in {test_ids}")
        listed.add(int(number.group(1)))
    return frozenset(name for name in kept if photo_number(name) in listed)


def _write_pictures(folder: Path, kept: Mapping[str, Photo]) -> None:
    """Write the pictures that are not there yet, and remove what is not among them."""
    for label in CLASSES:
        (folder / label).mkdir(parents=True, exist_ok=True)
    for path in [*folder.glob("partial-*"), *(path for label in CLASSES for path in (folder / label).iterdir())]:
        if path.relative_to(folder).as_posix() not in kept or path.stat().st_size == 0:
            path.unlink()
    missing = [name for name in kept if not (folder / name).exists()]
    if absent := [name for name in missing if not kept[name].path.is_file()]:
        raise ValueError(
            f"--coco-dir must hold all annotated photos. Received: no {kept[absent[0]].path}, {len(absent)} are absent"
        )
    pool = ThreadPoolExecutor()
    try:
        with progress_line("96 x 96 pictures", len(kept)) as line:
            line.advance(len(kept) - len(missing))
            for _ in pool.map(lambda name: _write_picture(kept[name].path, folder / name), missing):
                line.advance()
    finally:
        pool.shutdown(cancel_futures=True)


def _write_picture(photo: Path, picture: Path) -> None:
    try:
        check_at_most(str(photo), "bytes", photo.stat().st_size, PHOTO_BYTES)
        data = photo.read_bytes()
    except OSError as error:
        raise ValueError(f"{photo} must be readable. Received: {one_line(error)}") from error
    content = shrink(data, str(photo))
    with replaced_whole(picture) as temporary:
        temporary.write_bytes(content)


def shrink(jpeg: bytes, name: str = "a photo") -> bytes:
    """Return a JPEG photo as a JPEG picture of 96 x 96 pixels, whatever the shape of the photo.

    Bilinear with antialiasing (a triangle as wide as a new pixel), values cut off to whole ones, quality 75. MLPerf
    Tiny's script does the same with a Gaussian in place of the triangle (scikit-image).

    Args:
        jpeg: content of the photo.
        name: what an error calls it.

    Raises:
        ValueError: where it is damaged or declares more than ``PHOTO_PIXELS``.
    """
    height, width = declared_size(jpeg, name)
    check_at_most(name, "pixels", height * width, PHOTO_PIXELS)
    with tf.device("CPU"):
        small = tf.image.resize(decode_picture(jpeg, name), IMAGE_SHAPE, antialias=True)
        pixels = tf.cast(tf.clip_by_value(small, 0.0, 255.0), tf.uint8)
        return tf.io.encode_jpeg(pixels, quality=JPEG_QUALITY).numpy()


def _write_lists(folder: Path, kept: Mapping[str, Photo], tests: frozenset[str], seed: int) -> None:
    others = [name for name in kept if name not in tests]
    _, validation = validation_indices(np.array([kept[name].label for name in others]), seed=seed)
    lists = {TEST_LIST: sorted(tests), VALIDATION_LIST: sorted(others[index] for index in validation)}
    for list_name, names in lists.items():
        with open_replacement(folder / list_name) as file:
            file.writelines(f"{name}\n" for name in names)
    with open_replacement(folder / LICENCES) as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("file", "image_licence", "url"))
        rows.writerows((name, photo.licence, photo.url) for name, photo in kept.items())


def main() -> None:
    """Run the command; a wrong input ends in one sentence and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.visual_wake_words.build", description=__doc__)
    parser.add_argument("--coco-dir", type=Path, required=True, help="COCO 2014 or 2017: annotations and pictures")
    parser.add_argument("--output-dir", type=Path, required=True, help="new folder, then the --data-dir of po2quant")
    parser.add_argument("--rule", default="mlperf_tiny", help=f"{' or '.join(RULES)}; mlperf_tiny by default")
    parser.add_argument("--test-ids", type=Path, help="list of the COCO numbers of the test photos; else a tenth")
    parser.add_argument("--seed", type=int, default=0, help="of the tenth of the other photos for validation")
    options = parser.parse_args()
    try:
        counts = build(options.coco_dir, options.output_dir, options.rule, options.test_ids, options.seed)
    except ValueError as error:
        parser.exit(2, f"error: {error}\n")
    except KeyboardInterrupt:
        parser.exit(INTERRUPTED, "stopped; the same command goes on\n")
    sys.stdout.write(f"{options.output_dir}: {', '.join(f'{count} {label}' for label, count in counts.items())}\n")


if __name__ == "__main__":
    main()
