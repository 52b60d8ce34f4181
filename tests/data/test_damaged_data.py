"""Whatever happens to a file of a data set, its loader gives data or says one sentence."""

import functools
import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from mutations import mutated
from sample_files import jpeg, sound_file, write_folder, write_tar, write_zip

from benchmarks.anomaly_detection.data import TEST_FILE
from benchmarks.anomaly_detection.data import load as load_machines
from benchmarks.image_classification.data import CLASSES
from benchmarks.image_classification.data import load as load_images
from benchmarks.image_classification.pickled_batch import read_pickle
from benchmarks.keyword_spotting.data import load as load_keywords
from benchmarks.keyword_spotting.official import CLASS_FOLDERS
from benchmarks.visual_wake_words import coco
from benchmarks.visual_wake_words.data import load as load_persons
from po2quant.benchmark import Dataset
from po2quant.data.archives import Archive, members
from po2quant.data.audio import read_sound
from po2quant.data.pictures import decode_images

DAMAGES = 120
"""Of each kind of file; a longer run has another seed and more of them."""
SEED = 17


def npz(compress=True):
    """Return a feature file of four clips of one machine."""
    file = io.BytesIO()
    names = np.array([f"{kind}_id_01_0000000{n}" for n, kind in enumerate(("normal", "normal", "anomaly", "anomaly"))])
    (np.savez_compressed if compress else np.savez)(file, log_mel_db=np.zeros((4, 200, 128), np.float16), names=names)
    return file.getvalue()


def speech(path):
    """Write the archive of a test set, one clip a class, with labels and lists."""
    sound = sound_file(np.arange(800, dtype=np.int16), kind="FLAC")
    return write_zip(path, {f"{folder}/{n}.flac": sound for folder in CLASS_FOLDERS for n in range(2)})


def annotations():
    """Return COCO's annotations of two photos."""
    images = [{"id": n, "file_name": f"COCO_train2014_{n:012d}.jpg", "width": 9, "height": 9.5} for n in range(2)]
    records = [{"image_id": 1, "category_id": 1, "area": 5, "bbox": [0, 0, 2, 2.5], "iscrowd": 0}]
    content = {"images": images, "annotations": records, "categories": [{"id": 1, "name": "person"}], "licenses": []}
    return json.dumps(content).encode()


def crops(write, name, tmp_path):
    """Return an archive of eight small crops with a test list."""
    files = {f"{label}/{n}.jpg": jpeg(96, 96, 30 * n) for n in range(4) for label in ("person", "non_person")}
    tests = "".join(f"{label}/0.jpg\n" for label in ("person", "non_person"))
    origin = json.dumps({"rule": "mlperf_tiny", "coco_photos": 8})
    return write(tmp_path / name, files | {"test_list.txt": tests, "origin.json": origin}).read_bytes()


def labelled(tmp_path):
    """Return the archive of MLPerf Tiny's pictures, two of them."""
    files = {"y_labels.csv": "a.bin,10,3\nb.bin,10,9\n", "a.bin": bytes(3072), "b.bin": bytes(3072)}
    return write_zip(tmp_path / "mlperf_tiny_ic01.zip", files, zipfile.ZIP_DEFLATED).read_bytes()


def batch():
    """Return the pickle of two pictures of CIFAR-10."""
    return pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, 2], b"names": ["a", "b"]}, 2)


def cifar(tmp_path):
    """Return a tar file of the six batches, two pictures of each class altogether."""
    names = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    pixels = np.zeros((len(CLASSES), 3072), np.uint8)
    files = {name: pickle.dumps({"data": pixels, "labels": [*range(len(CLASSES))]}, 2) for name in names}
    return write_tar(tmp_path / "cifar-10-python.tar.gz", files).read_bytes()


def read_all(path):
    """Read every file of a zip file in both ways."""
    with Archive(path) as archive:
        for name in archive.names:
            archive.read(name)
    read_members(path)


def read_members(path):
    """Read every file of a zip or tar file in order."""
    for _, chunks in members(path):
        b"".join(chunks)


def read_crop(path):
    """Decode a picture in a folder."""
    with Archive(path.parent) as archive:
        decode_images(archive, [path.name], (96, 96))


def read_photos(path):
    """Read annotations as those of COCO."""
    for rule in coco.RULES.values():
        coco.read_photos(path.parents[1], rule)


def of_bytes(read):
    """Return a reader of a path for one of bytes and a name."""
    return lambda path: read(path.read_bytes(), path.name)


def array(values):
    """Return an array file."""
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def zip_around(files, name):
    """Return what packs a content as a member beside others: the zip file itself stays whole."""

    def pack(path, content):
        write_zip(path, files | {name: content}, zipfile.ZIP_DEFLATED)

    return pack


def tar_header(form):
    """Return the header of a file of a kilobyte."""
    member = tarfile.TarInfo("a/b")
    member.size = 1024
    return member.tobuf(form)


def pack_tar_header(path, content):
    """Write a tar file of a header, with the checksum that fits, and a kilobyte of content."""
    header = bytearray(content[:512].ljust(512, b"\0"))
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(bytes(header) + bytes(range(256)) * 4 + bytes(10_240))


TAR = functools.partial(write_tar, files={"a/b.txt": b"text" * 300, "c" * 120: b"", "d": bytes(700)})
NOISE = np.random.default_rng(0).integers(-9000, 9000, 4000).astype(np.int16)
KINDS = {  # name of the file, its content, how it is read
    "zip": ("a.zip", lambda tmp: write_zip(tmp / "x.zip", {"a": b"1" * 999, "b/c": b"2"}, 8).read_bytes(), read_all),
    "tar": ("a.tar", lambda tmp: TAR(tmp / "x.tar", mode="w").read_bytes(), read_members),
    "tar.gz": ("a.tar.gz", lambda tmp: TAR(tmp / "x.tar.gz").read_bytes(), read_members),
    "tar.bz2": ("a.tar.bz2", lambda tmp: TAR(tmp / "x.tar.bz2", mode="w:bz2").read_bytes(), read_members),
    "npz": (TEST_FILE, lambda tmp: npz(), load_machines),
    "npz, stored": (TEST_FILE, lambda tmp: npz(compress=False), load_machines),
    "wav": ("a.wav", lambda tmp: sound_file(NOISE), of_bytes(read_sound)),
    "FLAC": ("a.flac", lambda tmp: sound_file(NOISE, kind="FLAC"), of_bytes(read_sound)),
    "Ogg": ("a.ogg", lambda tmp: sound_file(NOISE, kind="OGG", subtype="VORBIS"), of_bytes(read_sound)),
    "JPEG": ("a.jpg", lambda tmp: jpeg(96, 96), read_crop),
    "PNG": ("a.jpg", lambda tmp: tf.io.encode_png(np.zeros((96, 96, 3), np.uint8)).numpy(), read_crop),
    "pickle": ("data_batch_1", lambda tmp: batch(), of_bytes(read_pickle)),
    "annotations": ("annotations/instances_train2014.json", lambda tmp: annotations(), read_photos),
    "CIFAR-10": ("cifar-10-python.tar.gz", cifar, load_images),
    "labels": ("mlperf_tiny_ic01.zip", labelled, load_images),
    "crops": ("person_96.zip", functools.partial(crops, write_zip, "person_96.zip"), load_persons),
    "crops, tar": ("vw_coco2014_96.tar.gz", functools.partial(crops, write_tar, "x.tar.gz"), load_persons),
    "speech": ("speech_commands_v2_subset.zip", lambda tmp: speech(tmp / "x.zip").read_bytes(), load_keywords),
}
SLOW = {"CIFAR-10", "crops", "crops, tar", "speech", "list of tests", "origin"}
"""Whole data sets, of which fewer damages are tried: their readers are among the others."""

CLIPS = [f"{kind}_id_01_0000000{n}" for n, kind in enumerate(("normal", "anomaly", "normal", "anomaly"))]
NAMES, FEATURES = array(np.array(CLIPS)), array(np.zeros((4, 200, 128), np.float16))
PICTURES = {f"{label}/{n}.jpg": jpeg(96, 96, 30 * n) for n in range(4) for label in ("person", "non_person")}
INNER_KINDS = {  # name of the file, a content in it, how it is packed, how it is read
    "features": (TEST_FILE, FEATURES, zip_around({"names.npy": NAMES}, "log_mel_db.npy"), load_machines),
    "names": (TEST_FILE, NAMES, zip_around({"log_mel_db.npy": FEATURES}, "names.npy"), load_machines),
    "labels, inside": (
        "mlperf_tiny_ic01.zip",
        b"a.bin,10,3\nb.bin,10,9\n",
        zip_around({"a.bin": bytes(3072), "b.bin": bytes(3072)}, "y_labels.csv"),
        load_images,
    ),
    "list of tests": (
        "person_96.zip",
        b"person/0.jpg\nnon_person/0.jpg\n",
        zip_around(PICTURES, "test_list.txt"),
        load_persons,
    ),
    "origin": (
        "person_96.zip",
        b'{"rule": "mlperf_tiny", "coco_photos": 8}',
        zip_around(PICTURES | {"test_list.txt": "person/0.jpg\nnon_person/0.jpg\n"}, "origin.json"),
        load_persons,
    ),
    **{
        f"tar header {form}": ("a.tar", tar_header(form), pack_tar_header, read_members)
        for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT)
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_end_in_data_or_one_sentence(tmp_path, kind):
    """Flipped bits, wrong sizes, cuts, repeats and noise: never another exception, never two lines."""
    name, build, read = KINDS[kind]
    (tmp_path / "whole").mkdir()
    check_damages(tmp_path, kind, name, build(tmp_path / "whole"), Path.write_bytes, read)


@pytest.mark.parametrize("kind", INNER_KINDS)
def test_damage_inside_of_whole_archives(tmp_path, kind):
    """The same where the checksums of the archive fit: what a hand made, not a disk."""
    check_damages(tmp_path, kind, *INNER_KINDS[kind])


def check_damages(tmp_path, kind, name, whole, pack, read):
    """Damage a content again and again, pack it and read it."""
    path = write_folder(tmp_path / "data", {name: b""}) / name
    pack(path, whole)
    read(path)
    rng, refused = np.random.default_rng(SEED), 0
    for _ in range(DAMAGES // (4 if kind in SLOW else 1)):
        pack(path, mutated(whole, rng))
        try:
            found = read(path)
        except ValueError as error:
            sentence = str(error)
            assert sentence.isprintable() and len(sentence) < 600 + 2 * len(str(tmp_path)), sentence
            refused += 1
        else:
            assert not isinstance(found, Dataset) or len(found.test)
    assert refused, "a mutator that nobody notices tests nothing"
