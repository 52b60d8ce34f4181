"""What the data loaders share: splits of the real archives, and one clear sentence for each wrong path."""

import functools
import os
import zipfile

import numpy as np
import pytest
from refusals import complaint
from sample_files import write_folder, write_zip
from scipy.spatial.distance import cdist

from benchmarks.anomaly_detection import data as anomaly
from benchmarks.digits import data as digits
from benchmarks.digits_few import data as few
from benchmarks.image_classification import data as images
from benchmarks.keyword_spotting import data as keywords
from benchmarks.visual_wake_words import data as persons
from po2quant.data import archives, splits

SPEECH, SPEECH_FEATURES = "speech_commands_v2_subset.zip", "mlperf_tiny_kws01.zip"
ARCHIVES = (  # loader, file, shape of an input, classes, name, kind and counts
    (keywords, SPEECH, (49, 10, 1), 12, "Speech Commands V2 (subset: 2534 train, 210 validation, 1028 test)"),
    (keywords, SPEECH_FEATURES, (49, 10, 1), 12, "MLPerf Tiny keyword spotting features (subset: 1000 test)"),
    (images, "cifar10_jpeg.zip", (32, 32, 3), 10, "CIFAR-10 as JPEG (subset: 27000 train, 3000 validation, 5000 test)"),
    (images, "mlperf_tiny_ic01.zip", (32, 32, 3), 10, "MLPerf Tiny image classification pictures (subset: 200 test)"),
    (persons, "person_96.zip", (96, 96, 3), 2, "INRIA person crops (subset: 3896 train, 430 validation, 1255 test)"),
    (persons, "coco_person_96.zip", (96, 96, 3), 2, "COCO person pictures (subset: 80 train, 9 validation, 96 test)"),
    (digits, "", (8, 8, 1), 10, "scikit-learn digits (embedded: 1293 train, 144 validation, 360 test)"),
    (few, "", (8, 8, 1), 10, "scikit-learn digits (embedded: 502 train, 215 validation, 1080 test)"),
)


@pytest.fixture(scope="module")
def load(shared):
    """Return a function that loads a real archive, once."""

    @functools.cache
    def load(loader, name):
        return loader.load(shared(f"data/{name}") if name else None)

    return load


def parts(dataset):
    """Return the splits, with None for an absent one."""
    return dataset.train, dataset.validation, dataset.test


def rows(split):
    """Return the inputs of a split as a set."""
    return {x.tobytes() for x in split.x}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loader", "name", "shape", "classes", "description"), ARCHIVES, ids=[row[1] or "digits" for row in ARCHIVES]
)
def test_counts_and_splits(load, loader, name, shape, classes, description):
    """Names, counts, shapes, label range, all classes early in each split, and no input in two splits."""
    dataset = load(loader, name)
    assert dataset.describe() == description
    for split in filter(None, parts(dataset)):
        assert split.x.shape[1:] == shape and split.inputs(slice(2)).dtype == np.float32
        assert split.x.dtype == (np.uint8 if loader in (images, persons) else np.float32)
        assert split.y.ndim == 1 and split.y.dtype == np.int32
        assert set(split.y) == set(range(classes))
        assert set(split.y[: 10 * classes]) == set(range(classes)), "the first samples are a fair small split"
    train, validation, test = (rows(split) if split else set() for split in parts(dataset))
    twins = len(train & validation) + len(train & test) + len(validation & test)
    assert twins <= (22 if name == "person_96.zip" else 0), "person_96.zip holds 22 pictures twice"


@pytest.mark.parametrize(("loader", "name"), [(digits, ""), (persons, "coco_person_96.zip")])
def test_seed(shared, loader, name):
    """The seed decides the validation split; the test split stays."""
    path = shared(f"data/{name}") if name else None
    first, same, other = (loader.load(path, seed) for seed in (0, 0, 1))
    assert same.fingerprint() == first.fingerprint() != other.fingerprint()
    np.testing.assert_array_equal(first.test.x, other.test.x)
    assert rows(first.validation) != rows(other.validation)


@pytest.mark.slow
def test_mfcc_against_benchmark_features(load):
    """70 % of MLPerf Tiny's own features come from clips of the subset, and ours equal them."""
    clips = load(keywords, SPEECH)
    features = np.concatenate([split.x for split in parts(clips)]).reshape(-1, 490)
    labels = np.concatenate([split.y for split in parts(clips)])
    official = load(keywords, SPEECH_FEATURES).test
    distances = cdist(official.x.reshape(-1, 490), features, "cityblock") / 490
    found = distances.min(axis=1) < 0.4  # a quantization step is 0.58, and the clips are Vorbis
    assert found.mean() > 0.68
    np.testing.assert_array_equal(labels[distances.argmin(axis=1)][found], official.y[found])


def test_truncated_file(tmp_path):
    """A file cut in half is refused by name."""
    np.savez(tmp_path / anomaly.TEST_FILE, names=np.zeros(99))
    write_zip(tmp_path / "person_96.zip", {"person/1.jpg": bytes(1000)})
    for name, load in ((anomaly.TEST_FILE, anomaly.load), ("person_96.zip", persons.load)):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        assert name in complaint(load, tmp_path)


@pytest.mark.parametrize("loader", [keywords, anomaly, images, persons])
def test_missing_path(loader, tmp_path):
    """No path, a missing path, an empty folder and a foreign archive name the accepted files."""
    assert "must have" in complaint(loader.load, None)
    assert "nowhere, which does not exist" in complaint(loader.load, tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    assert "pipe, which is neither a file nor a folder" in complaint(loader.load, tmp_path / "pipe")
    assert "must have" in complaint(loader.load, tmp_path)
    assert "must have" in complaint(loader.load, write_zip(tmp_path / "a.zip", {"a.txt": "a"}))


def test_links_and_empty_archives(tmp_path):
    """Links in a folder or a zip file are refused, and so is an archive without files."""
    folder = write_folder(tmp_path / "clips", {"yes/1.wav": b""})
    (folder / "link.wav").symlink_to(folder / "yes" / "1.wav")
    link = zipfile.ZipInfo("link.wav")
    link.external_attr = 0o120777 << 16
    for path in (folder, write_zip(tmp_path / "linked.zip", {link: "/etc/hostname"})):
        assert "link.wav" in complaint(archives.Archive, path)
    for path in (write_folder(tmp_path / "nothing", {}), write_zip(tmp_path / "nothing.zip", {})):
        assert "which is empty" in complaint(archives.Archive, path)


def test_samples_of_a_group_stay_together():
    """The validation split has a tenth of the samples, and all samples of a photo or none."""
    photos = np.repeat(np.arange(50), 4)
    train, validation = splits.validation_indices(photos % 2, photos, seed=3)
    assert len(validation) == 20 and not set(photos[train]) & set(photos[validation])
