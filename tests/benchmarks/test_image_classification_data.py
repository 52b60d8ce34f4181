"""CIFAR-10 in its official forms, read without running pickles; downloads, generated pictures and random changes."""

import hashlib
import os
import pickle
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from refusals import complaint
from sample_files import jpeg, write_folder, write_tar, write_zip

from benchmarks.image_classification import BENCHMARK
from benchmarks.image_classification import data as images
from benchmarks.image_classification.pickled_batch import read_pickle
from benchmarks.image_classification.synthetic import synthesize
from benchmarks.shared import download

PER_BATCH = 40
RNG = np.random.default_rng(0)
PIXELS = {name: RNG.integers(0, 256, (PER_BATCH, 3072), dtype=np.uint8) for name in images.BATCHES}
LABELS = {name: RNG.permutation(np.arange(PER_BATCH) % 10).tolist() for name in images.BATCHES}


def short(text):
    """Return a Python 2 string of a pickle."""
    return b"U" + bytes([len(text)]) + text


def integer(number):
    """Return a small number of a pickle."""
    return b"M" + number.to_bytes(2, "little")


def python2_pickle(pixels, labels, is_fortran=False):
    """Return a batch as Python 2 and its numpy write it with protocol 2, the form of the official files."""
    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85U\x01b\x87Rq\x07"
    dtype = b"cnumpy\ndtype\nq\x08U\x02u1K\x00K\x01\x87Rq\x09(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    content = pixels.tobytes("F" if is_fortran else "C")
    shape = integer(pixels.shape[0]) + integer(pixels.shape[1]) + b"\x86"
    state = b"(K\x01" + shape + dtype + (b"\x88" if is_fortran else b"\x89")
    state += b"T" + len(content).to_bytes(4, "little") + content + b"tb"
    return (
        b"\x80\x02}q\x01("
        + (short(b"batch_label") + b"q\x02" + short(b"training batch 1 of 5") + b"q\x03")
        + (short(b"labels") + b"q\x04]q\x0a(" + b"".join(map(integer, labels)) + b"e")
        + (short(b"data") + array + state)
        + (short(b"filenames") + b"]q\x0b(" + short(b"leptodactylus_pentadactylus_s_000004.png") + b"eu.")
    )


def python3_pickle(protocol):
    """Return a writer of batches as this Python and this numpy write them."""
    return lambda pixels, labels: pickle.dumps({b"data": pixels, b"labels": labels}, protocol)


def binary(pixels, labels):
    """Return a batch of the binary version: a class and its pixels, one picture after the other."""
    return np.concatenate([np.array(labels, np.uint8)[:, None], pixels], axis=1).tobytes()


def official_files(write=python2_pickle, suffix=""):
    """Return the batches of a small CIFAR-10, and the other files of the archive."""
    batches = {f"{name}{suffix}": write(PIXELS[name], LABELS[name]) for name in images.BATCHES}
    return batches | {"readme.html": b"<html>", "batches.meta": b"not a pickle that is ever read"}


def cifar_tar(path, files):
    """Write a tar file as the official python version is: with the files in a folder."""
    return write_tar(path, files, top="cifar-10-batches-py/")


def pairs(*splits):
    """Return the pictures with their classes."""
    return {(x.tobytes(), int(y)) for split in splits for x, y in zip(split.x, split.y, strict=True)}


def expected(names):
    """Return the pictures of batches with their classes, taken apart plane by plane."""
    planes = [(row.reshape(3, 32, 32), label) for n in names for row, label in zip(PIXELS[n], LABELS[n], strict=True)]
    return {(np.stack([red, green, blue], axis=-1).tobytes(), label) for (red, green, blue), label in planes}


def check_official(dataset):
    """Check that a data set is the small CIFAR-10, whole, in its splits."""
    assert dataset.describe() == "CIFAR-10 (official: 180 train, 20 validation, 40 test)"
    assert dataset.train.x.dtype == np.uint8 and dataset.train.x.shape[1:] == (32, 32, 3) and dataset.train.scale == 1
    assert pairs(dataset.train, dataset.validation) == expected(images.BATCHES[:5])
    assert pairs(dataset.test) == expected(images.BATCHES[5:])
    assert np.bincount(dataset.validation.y).tolist() == [2] * 10 and dataset.train.y.dtype == np.int32
    assert len(set(dataset.test.y[:10])) == 10, "the first samples are a fair small split"
    assert dataset.train.augmented and dataset.test.augmented is dataset.validation.augmented is None


@pytest.mark.parametrize("write", [python2_pickle, *map(python3_pickle, (2, 3, 4))])
def test_python_version(tmp_path, write):
    """The tar file, the folder it came in, its extracted folder and what holds that give the same data."""
    path = cifar_tar(tmp_path / "cifar-10-python.tar.gz", official_files(write))
    check_official(images.load(path))
    assert images.load(tmp_path).fingerprint() == images.load(path).fingerprint()
    folder = write_folder(tmp_path / "data" / "cifar-10-batches-py", official_files(write))
    assert images.load(folder).fingerprint() == images.load(path).fingerprint()
    assert images.load(folder.parent).fingerprint() == images.load(path).fingerprint()


def test_binary_version(tmp_path):
    """The binary version gives the same data as the python version, in all its forms."""
    files = official_files(binary, ".bin")
    path = write_tar(tmp_path / "cifar-10-binary.tar.gz", files, "cifar-10-batches-bin/")
    folder = write_folder(tmp_path / "data" / "cifar-10-batches-bin", files)
    python = images.load(cifar_tar(tmp_path / "other.tar.gz", official_files())).fingerprint()
    for form in (path, tmp_path, folder, folder.parent):
        check_official(images.load(form))
        assert images.load(form).fingerprint() == python


def test_hand_written_pickle_is_one():
    """The form that the tests take for Python 2's is what Python itself reads as the batch."""
    for is_fortran in (False, True):
        content = python2_pickle(PIXELS["test_batch"], LABELS["test_batch"], is_fortran)
        fields = pickle.loads(content, encoding="bytes")
        np.testing.assert_array_equal(fields[b"data"], PIXELS["test_batch"])
        assert fields[b"labels"] == LABELS["test_batch"] and fields[b"batch_label"] == b"training batch 1 of 5"
        np.testing.assert_array_equal(read_pickle(content, "a")[0], PIXELS["test_batch"])


def test_seed(tmp_path):
    """The seed decides the validation pictures; the test pictures stay."""
    path = cifar_tar(tmp_path / "cifar-10-python.tar.gz", official_files())
    first, same, other = (images.load(path, seed) for seed in (0, 0, 1))
    assert first.fingerprint() == same.fingerprint() != other.fingerprint()
    assert pairs(first.validation) != pairs(other.validation)
    np.testing.assert_array_equal(first.test.x, other.test.x)


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("place", ["data", "labels", "extra", "whole"])
def test_malicious_pickle(tmp_path, protocol, place):
    """A pickle that names a command is refused, and the command does not run."""
    mark = tmp_path / "it-ran"
    fields = {"data": np.zeros((1, 3072), np.uint8), "labels": [0], place: Evil(mark)}
    content = pickle.dumps(Evil(mark) if place == "whole" else fields, protocol)
    sentence = complaint(read_pickle, content, "data_batch_1")
    assert sentence.startswith("data_batch_1 must be a complete pickle") and not mark.exists()
    path = cifar_tar(tmp_path / "cifar-10-python.tar.gz", official_files() | {"data_batch_3": content})
    assert "data_batch_3 of" in complaint(images.load, path) and not mark.exists()
    pickle.loads(content)
    assert mark.exists(), "the pickle is malicious indeed"


@pytest.mark.parametrize(
    "content",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"\x80\x02c__builtin__\neval\nU\x011\x85R.",
        b"cnumpy\nload\n.",
        b"cnumpy\nndarray.tofile\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.",
        b"ccodecs\nopen\n.",
        b"(ios\nsystem\n.",
        b"\x80\x02\x82\x01.",
        b"P1\n.",
    ],
)
def test_other_names(content):
    """Any other name, attribute, extension or persistent object is refused."""
    complaint(read_pickle, content, "data_batch_1")


GOOD_PICKLE = official_files()["data_batch_2"]
ONE_PIXEL = np.zeros((PER_BATCH, 3), np.uint8)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "without data_batch_2"),
        (b"", "EOFError"),
        (b"<html>Not found</html>", "data_batch_2 of"),
        (GOOD_PICKLE[: len(GOOD_PICKLE) // 2], "but only 61312 remain"),
        (GOOD_PICKLE[:-1], "data_batch_2 of"),
        (pickle.dumps([1, 2]), "AttributeError"),
        (pickle.dumps({"data": np.zeros((1, 3072), np.uint8)}, 4), "labels"),
        (pickle.dumps({"data": [0] * 3072, "labels": [0]}, 4), "AttributeError"),
        (pickle.dumps({"data": np.zeros((1, 3072)), "labels": [0]}, 4), "'f8'"),
        (pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [0.5]}, 4), "integers"),
        (python2_pickle(ONE_PIXEL, LABELS["data_batch_2"]), "Received: pictures (40, 3) and 40 classes"),
        (python2_pickle(PIXELS["data_batch_2"], [3]), "Received: pictures (40, 3072) and 1 classes from 3 to 3"),
        (python2_pickle(PIXELS["data_batch_2"][:1], [10]), "classes from 10 to 10"),
        (python2_pickle(PIXELS["data_batch_2"][:0], []), "no classes"),
    ],
)
def test_broken_pickle(tmp_path, content, sentence):
    """A missing, empty, truncated or foreign batch, and pictures of one pixel, are refused by name."""
    files = official_files() | {"data_batch_2": content}
    path = cifar_tar(tmp_path / "cifar-10-python.tar.gz", files)
    folder = write_folder(tmp_path / "cifar-10-batches-py", files)
    for form in (path, folder):
        assert sentence in complaint(images.load, form) and str(form) in complaint(images.load, form)


@pytest.mark.parametrize("content", [b"", b"\x00", binary(PIXELS["data_batch_1"], LABELS["data_batch_1"])[:-1]])
def test_broken_binary_batch(tmp_path, content):
    """An empty or truncated binary batch is refused by name."""
    files = official_files(binary, ".bin") | {"data_batch_2.bin": content}
    assert "data_batch_2.bin of" in complaint(images.load, write_folder(tmp_path / "folder", files))
    wrong = binary(PIXELS["data_batch_1"], [10] * PER_BATCH)
    files = official_files(binary, ".bin") | {"data_batch_2.bin": wrong}
    assert "from 10 to 10" in complaint(images.load, write_folder(tmp_path / "wrong", files))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_tar(tmp_path, share):
    """A truncated archive is refused by name."""
    path = cifar_tar(tmp_path / "cifar-10-python.tar.gz", official_files())
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert str(path) in complaint(images.load, tmp_path)


def test_wrong_archives(tmp_path):
    """Damaged, empty and foreign archives, links in a folder and no path say what is needed."""
    path = cifar_tar(tmp_path / "cifar-10-python.tar.gz", {"train": b"CIFAR-100 has other names"})
    assert "without data_batch_1" in complaint(images.load, path)
    assert "which is empty" in complaint(images.load, cifar_tar(path, {}))
    path.write_bytes(RNG.bytes(5000))
    assert "complete zip or tar file" in complaint(images.load, path)
    folder = write_folder(tmp_path / "cifar-10-batches-py", official_files())
    (folder / "test_batch").unlink()
    (folder / "test_batch").symlink_to(folder / "data_batch_1")
    assert "no links" in complaint(images.load, folder)
    for name in ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz", "cifar10_jpeg.zip", "mlperf_tiny_ic01.zip"):
        assert name in complaint(images.load, None) and name in complaint(images.load, tmp_path / "none")
        assert name in complaint(images.load, write_folder(tmp_path / f"no-{name}", {}))


def jpeg_files():
    """Return a small CIFAR-10 as JPEG: ten training and ten test pictures of each class, each of its own grey."""
    greys = {"train": range(10), "test": range(10, 20)}
    return {
        f"{part}/{name}/{n}.jpg": jpeg(32, 32, 20 * label + n)
        for part, numbers in greys.items()
        for label, name in enumerate(images.CLASSES)
        for n in numbers
    }


def test_jpeg_archive(tmp_path):
    """Decoded pictures keep the order of the files, and their part; a tenth of the training ones is for validation."""
    dataset = images.load(write_zip(tmp_path / "cifar10_jpeg.zip", jpeg_files()))
    assert dataset.describe() == "CIFAR-10 as JPEG (subset: 90 train, 10 validation, 100 test)"
    assert dataset.train.x.dtype == np.uint8 and dataset.train.augmented and dataset.test.augmented is None
    assert np.bincount(dataset.validation.y).tolist() == [1] * 10
    for split in (dataset.train, dataset.validation, dataset.test):
        greys = split.x[:, 0, 0, 0]
        np.testing.assert_array_equal(split.x, np.broadcast_to(greys[:, None, None, None], split.x.shape))
        np.testing.assert_array_equal(greys // 20, split.y)
        np.testing.assert_array_equal(greys % 20 >= 10, split is dataset.test)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"train/cat/3.jpg": jpeg(1, 1)}, "train/cat/3.jpg must have the shape (32, 32, 3)"),
        ({"test/cat/13.jpg": jpeg(32, 32)[:200]}, "test/cat/13.jpg must be a complete JPEG"),
        ({"train/cat/3.jpg": b""}, "train/cat/3.jpg must be a complete JPEG"),
        ({f"test/ship/{n}.jpg": None for n in range(10, 20)}, "test/ship must hold .jpg"),
        ({"train/lion/0.jpg": jpeg(32, 32)}, "train/lion/0.jpg"),
    ],
)
def test_broken_jpeg_archive(tmp_path, change, sentence):
    """Damaged, tiny, missing and strange pictures are refused by name."""
    path = write_zip(tmp_path / "cifar10_jpeg.zip", jpeg_files() | change)
    assert sentence in complaint(images.load, path)


def test_test_pictures_alone_are_a_test_split(tmp_path):
    whole = images.load(write_zip(tmp_path / "cifar10_jpeg.zip", jpeg_files()))
    tests = {name: content for name, content in jpeg_files().items() if name.startswith("test/")}
    alone = images.load(write_zip(tmp_path / "alone" / "cifar10_jpeg.zip", tests))
    folder = write_folder(tmp_path / "official", {"test_batch": official_files()["test_batch"]})
    for dataset in (alone, images.load(folder)):
        assert dataset.train is None and "test pictures alone" in dataset.describe()
    np.testing.assert_array_equal(alone.test.x, whole.test.x)


def test_raw_picture_that_is_too_small(tmp_path):
    """A picture of MLPerf Tiny's accuracy set must have all its bytes."""
    path = write_zip(tmp_path / "mlperf_tiny_ic01.zip", {"y_labels.csv": "a.bin,10,9", "a.bin": bytes(3071)})
    assert "a.bin must have 3072 bytes" in complaint(images.load, path)


def test_download(tmp_path, monkeypatch):
    """The official file is asked for once, with the digest that Keras checks, and not where data are already."""
    asked = []
    monkeypatch.setattr(images, "fetch", lambda source, folder: asked.append((source, folder)))
    BENCHMARK.download(tmp_path)
    assert asked == [(images.SOURCE, tmp_path)]
    for name, files in (("py", official_files()), ("bin", official_files(binary, ".bin"))):
        write_folder(tmp_path / name / f"cifar-10-batches-{name}", files)
        BENCHMARK.download(tmp_path / name)
        BENCHMARK.download(tmp_path / name / f"cifar-10-batches-{name}")
    assert len(asked) == 1
    keras_source = Path(keras.__file__).parent / "src" / "datasets" / "cifar10.py"
    if not keras_source.exists():
        pytest.skip("Keras has no file datasets/cifar10.py here")
    assert images.SOURCE.digest.removeprefix("sha256:") in keras_source.read_text()
    assert images.SOURCE.url in keras_source.read_text()


def test_damaged_download_is_replaced(tmp_path, monkeypatch):
    """A file of the right name and wrong content is fetched anew; the right one is read."""
    archive = cifar_tar(tmp_path / "made.tar.gz", official_files()).read_bytes()
    digest = f"sha256:{hashlib.sha256(archive).hexdigest()}"
    source = download.Source("http://127.0.0.1:9/none", images.SOURCE.name, len(archive), digest)
    monkeypatch.setattr(images, "SOURCE", source)
    folder = write_folder(tmp_path / "data", {source.name: archive})
    images.download(folder)
    check_official(images.load(folder))
    (folder / source.name).write_bytes(archive[:-1])
    assert "--data-dir" in complaint(images.download, folder)


def test_synthetic():
    """Generated pictures: shapes, all classes in each split, none twice, decided by the seed, not by brightness."""
    dataset, other = BENCHMARK.synthesize(0), synthesize(1)
    assert dataset.describe() == "synthetic stripes (synthetic: 1200 train, 200 validation, 400 test)"
    assert synthesize(0).fingerprint() == dataset.fingerprint() != other.fingerprint()
    splits = (dataset.train, dataset.validation, dataset.test)
    for split in splits:
        assert split.x.dtype == np.uint8 and split.x.shape[1:] == (32, 32, 3) and split.y.dtype == np.int32
        assert set(np.bincount(split.y)) == {len(split) // 10} and set(split.y[:40]) == set(range(10))
    assert len({x.tobytes() for split in splits for x in split.x}) == 1800
    assert dataset.train.augmented and dataset.test.augmented is None
    assert nearest_class_accuracy(dataset, lambda x: x) < 0.3, "not by single pixels"
    assert nearest_class_accuracy(dataset, lambda x: np.log1p(np.abs(np.fft.rfft2(x, axes=(1, 2))))) > 0.8


def nearest_class_accuracy(dataset, feature):
    """Return the share of test pictures whose nearest class mean of a feature is that of their class."""
    train, test = (feature(split.x.astype(float)).reshape(len(split), -1) for split in (dataset.train, dataset.test))
    means = np.stack([train[dataset.train.y == label].mean(axis=0) for label in range(10)])
    distance = ((means**2).sum(axis=1) - 2 * test @ means.T).argmin(axis=1)
    return np.mean(distance == dataset.test.y)


def test_random_changes():
    """Sample i of the changed inputs is a changed sample i, in 0..255, decided by the seed."""
    value = np.arange(20, dtype=np.uint8) * 12
    split = images.with_augmentation(images.Split(np.tile(value[:, None, None, None], (1, 32, 32, 3)), value))
    flat = split.augmented(tf.constant([3, 19, 0], tf.int64), tf.constant([1, 2]))
    assert flat.dtype == tf.float32 and flat.shape == (3, 32, 32, 3)
    np.testing.assert_allclose(flat[:, 5, 5, 1], value[[3, 19, 0]], atol=1e-3)
    train = synthesize(0).train
    samples = tf.range(64, dtype=tf.int64)
    first, same, other = (train.augmented(samples, tf.constant([1, seed])).numpy() for seed in (2, 2, 3))
    np.testing.assert_array_equal(first, same)
    assert np.any(first != other) and first.min() >= 0 and first.max() <= 255.001
