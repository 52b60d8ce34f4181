"""The data loaders: counts and splits of real archives, and one clear sentence for each broken one."""

import functools
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import soundfile
import tensorflow as tf
from scipy.spatial.distance import cdist

from benchmarks import base
from benchmarks.anomaly_detection import data as anomaly
from benchmarks.digits import data as digits
from benchmarks.image_classification import data as images
from benchmarks.keyword_spotting import data as keywords
from benchmarks.keyword_spotting.features import mfcc
from benchmarks.keyword_spotting.official import CLASS_FOLDERS
from benchmarks.visual_wake_words import data as persons

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
RNG = np.random.default_rng(0)
ARCHIVES = (  # loader, file, shape of an input, classes, (train, validation, test)
    (keywords, "speech_commands_v2_subset.zip", (49, 10, 1), 12, (2534, 210, 1028)),
    (keywords, "mlperf_tiny_kws01.zip", (49, 10, 1), 12, (0, 0, 1000)),
    (images, "cifar10_jpeg.zip", (32, 32, 3), 10, (27000, 3000, 5000)),
    (images, "mlperf_tiny_ic01.zip", (32, 32, 3), 10, (0, 0, 200)),
    (persons, "person_96.zip", (96, 96, 3), 2, (3896, 430, 1255)),
    (persons, "coco_person_96.zip", (96, 96, 3), 2, (80, 9, 96)),
    (digits, "", (8, 8, 1), 10, (1293, 144, 360)),
)


@functools.cache
def shared(loader, name, seed=0):
    """Load a real archive, or skip the test where it is absent."""
    if loader is not digits and not (SHARED_DATA / name).exists():
        pytest.skip(f"needs the shared data file {name}")
    return loader.load(SHARED_DATA / name, seed)


def parts(dataset):
    """Return the splits, with None for an absent one."""
    return dataset.train, dataset.validation, dataset.test


def rows(split):
    """Return the inputs of a split as a set."""
    return {x.tobytes() for x in split.x}


def jpeg(height, width, value=128):
    """Return a grey JPEG."""
    return tf.io.encode_jpeg(np.full((height, width, 3), value, np.uint8)).numpy()


def sound(samples, sample_rate_hz=16000, kind="WAV", subtype="FLOAT"):
    """Return a sound file."""
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate_hz, format=kind, subtype=subtype)
    return file.getvalue()


def make_zip(path, files):
    """Write a zip file of names and contents."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def complaint(call, *arguments):
    """Return the one sentence that a call complains with."""
    with pytest.raises(ValueError) as error:
        call(*arguments)
    assert "Received" in str(error.value) and "\n" not in str(error.value)
    return str(error.value)


def person_files():
    """Return a tiny visual-wake-words archive: six photos a class, two crops each."""
    names = [f"{c}/photo_{n}{crop}.jpg" for c in persons.CLASSES for n in range(6) for crop in "ab"]
    files = {name: jpeg(96, 96, 10 * i) for i, name in enumerate(names)}
    return files | {"test_list.txt": "person/photo_0a.jpg\nperson/photo_0b.jpg\nnon_person/photo_0a.jpg\n"}


def keyword_files():
    """Return a tiny keyword archive: a train, a validation and a test clip for each class."""
    files = {f"{c}/{n}.wav": sound(RNG.normal(size=16000)) for c in CLASS_FOLDERS for n in range(3)}
    lists = ("validation_list.txt", 1), ("testing_list.txt", 2)
    return files | {name: "\n".join(f"{c}/{n}.wav" for c in CLASS_FOLDERS) for name, n in lists}


@pytest.mark.parametrize(("loader", "name", "shape", "classes", "counts"), ARCHIVES)
def test_counts_and_splits(loader, name, shape, classes, counts):
    """Counts, shapes, label range, all classes early in each split, and no input in two splits."""
    dataset = shared(loader, name)
    assert tuple(0 if split is None else len(split) for split in parts(dataset)) == counts
    assert dataset.kind == ("embedded" if loader is digits else "subset")
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
def test_seed(loader, name):
    """The seed decides the validation split; the test split stays."""
    first, other = shared(loader, name), shared(loader, name, 1)
    assert loader.load(SHARED_DATA / name, 0).fingerprint() == first.fingerprint() != other.fingerprint()
    np.testing.assert_array_equal(first.test.x, other.test.x)
    assert rows(first.validation) != rows(other.validation)


def test_mfcc_against_benchmark_features():
    """70 % of MLPerf Tiny's own features come from clips of the subset, and ours equal them."""
    clips = shared(keywords, "speech_commands_v2_subset.zip")
    features = np.concatenate([split.x for split in parts(clips)]).reshape(-1, 490)
    labels = np.concatenate([split.y for split in parts(clips)])
    official = shared(keywords, "mlperf_tiny_kws01.zip").test
    distances = cdist(official.x.reshape(-1, 490), features, "cityblock") / 490
    found = distances.min(axis=1) < 0.4  # a quantization step is 0.58, and the clips are Vorbis
    assert found.mean() > 0.68
    np.testing.assert_array_equal(labels[distances.argmin(axis=1)][found], official.y[found])


def test_mfcc_formula():
    """The features equal a plain numpy computation and do not depend on the volume."""
    audio = RNG.normal(size=16000).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(audio / audio.max(), 480)[::320]
    spectrum = np.abs(np.fft.rfft(frames * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(480) / 480)), 512))
    mel = 1127 * np.log1p(np.arange(257) * 16000 / 512 / 700)
    edges = np.linspace(1127 * np.log1p(20 / 700), 1127 * np.log1p(4000 / 700), 42)
    rise = (mel[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    fall = (edges[2:] - mel[:, None]) / np.diff(edges)[1:]
    log_mel = np.log(spectrum @ np.maximum(0, np.minimum(rise, fall)) + 1e-6)
    expected = scipy.fft.dct(log_mel, axis=-1)[:, :10] / np.sqrt(80)
    np.testing.assert_allclose(mfcc(audio), expected, atol=2e-3)
    np.testing.assert_allclose(mfcc(np.stack([audio * 7, audio]))[0], expected, atol=2e-3)


@pytest.mark.parametrize("audio", [np.zeros(16000), np.full(16000, -0.5), np.ones(10), np.ones(40000)])
def test_mfcc_of_unusual_sound(audio):
    """Silent, all-negative, short and long sound gives finite features."""
    features = mfcc(audio)
    assert features.shape == (49, 10) and np.isfinite(features).all()


def test_truncated_file(tmp_path):
    """A file cut in half is refused by name."""
    np.savez(tmp_path / anomaly.TEST_FILE, names=np.zeros(99))
    make_zip(tmp_path / "person_96.zip", person_files())
    for name, load in ((anomaly.TEST_FILE, anomaly.load), ("person_96.zip", persons.load)):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        assert name in complaint(load, tmp_path)


@pytest.mark.parametrize("loader", [keywords, anomaly, images, persons])
def test_missing_path(loader, tmp_path):
    """No path, a missing path, an empty folder and a foreign archive name the accepted files."""
    assert "needs --data-dir with" in complaint(loader.load, None)
    assert "nowhere, which does not exist" in complaint(loader.load, tmp_path / "nowhere")
    assert "needs --data-dir with" in complaint(loader.load, tmp_path)
    assert "needs --data-dir with" in complaint(loader.load, make_zip(tmp_path / "a.zip", {"a.txt": "a"}))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"person/photo_1a.jpg": jpeg(1, 1)},
            "person/photo_1a.jpg must have the shape (96, 96, 3). Received: (1, 1",
        ),
        ({"person/photo_1a.jpg": jpeg(96, 64)}, "Received: (96, 64, 3)"),
        ({"person/photo_1a.jpg": jpeg(96, 96)[:300]}, "person/photo_1a.jpg must be a complete JPEG"),
        ({"../evil.jpg": b""}, "../evil.jpg"),
        ({"/evil.jpg": b""}, "/evil.jpg"),
        ({"cat/1.jpg": jpeg(96, 96)}, "cat/1.jpg"),
        ({"test_list.txt": "person/none.jpg"}, "person/none.jpg"),
        ({"test_list.txt": ""}, "at least one"),
    ],
)
def test_broken_picture_archive(tmp_path, change, sentence):
    """Wrong sizes, damaged pictures, unsafe names and wrong lists are refused."""
    make_zip(tmp_path / "person_96.zip", person_files() | change)
    assert sentence in complaint(persons.load, tmp_path)


def test_cifar_archive(tmp_path):
    """A tiny archive is split 90/10; a missing class and a raw picture that is too small are refused."""
    files = {f"train/{label}/{n}.jpg": jpeg(32, 32) for label in images.CLASSES for n in range(10)}
    files |= {f"test/{label}/0.jpg": jpeg(32, 32, 100) for label in images.CLASSES}
    path = make_zip(tmp_path / "cifar10_jpeg.zip", files)
    dataset = images.load(path)
    assert dataset.describe() == "CIFAR-10 as JPEG (subset: 90 train, 10 validation, 10 test)"
    assert np.bincount(dataset.validation.y).tolist() == [1] * 10
    assert np.all(dataset.train.x == 128) and np.all(dataset.test.x == 100)
    del files["test/truck/0.jpg"]
    assert "test/truck must hold .jpg files" in complaint(images.load, make_zip(path, files))
    make_zip(path, {"y_labels.csv": "a.bin,10,9", "a.bin": bytes(3071)})
    assert "a.bin must have 3072 bytes" in complaint(images.load, path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"yes/0.wav": b"RIFF"}, "yes/0.wav must be a complete sound file"),
        ({"yes/0.wav": sound(np.full(9, np.nan))}, "yes/0.wav must hold finite"),
        ({"yes/0.wav": sound(np.zeros(0))}, "no samples"),
        ({"validation_list.txt": "yes/2.wav"}, "one list"),
        ({f"yes/{n}.wav": None for n in range(3)}, "yes must hold .ogg files"),
        ({"testing_list.txt": None, "y_labels.csv": "a.bin,10,3"}, "file,12,label"),
        ({"testing_list.txt": None, "y_labels.csv": "yes/0.wav,12,3"}, "490 bytes"),
    ],
)
def test_broken_sound_archive(tmp_path, change, sentence):
    """Damaged, NaN or empty clips, wrong lists, missing classes and wrong labels are refused."""
    files = {name: data for name, data in (keyword_files() | change).items() if data is not None}
    make_zip(tmp_path / "speech_commands_v2_subset.zip", files)
    assert sentence in complaint(keywords.load, tmp_path)


def test_archive_forms(tmp_path):
    """A folder gives the same data as its zip file; links and empty archives are refused."""
    zipped = make_zip(tmp_path / "speech_commands_v2_subset.zip", keyword_files())
    zipfile.ZipFile(zipped).extractall(tmp_path / "clips")
    assert keywords.load(tmp_path / "clips").fingerprint() == keywords.load(zipped).fingerprint()
    (tmp_path / "clips" / "link.wav").symlink_to(zipped)
    assert "link.wav" in complaint(keywords.load, tmp_path / "clips")
    link = zipfile.ZipInfo("link.wav")
    link.external_attr = 0o120777 << 16
    assert "link.wav" in complaint(base.Archive, make_zip(tmp_path / "linked.zip", {link: "/etc/hostname"}))
    assert "which is empty" in complaint(keywords.load, make_zip(zipped, {}))


def test_photos(tmp_path):
    """All crops of one photo stay on one side of the validation split."""
    dataset = persons.load(make_zip(tmp_path / "person_96.zip", person_files()))
    assert len(dataset.validation) == 2 and len(dataset.train) == 19 and len(dataset.test) == 3
    photos = np.repeat(np.arange(50), 4)
    train, validation = base.validation_indices(photos % 2, photos, seed=3)
    assert len(validation) == 20 and not set(photos[train]) & set(photos[validation])
    assert [persons.photo_of(f"person/{n}.jpg") for n in ("12_3", "crop04b", "x_3")] == [
        "person/12",
        "person/crop04",
        "person/x_3",
    ]
