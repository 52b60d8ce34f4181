"""Data of a network without a benchmark: what is accepted, how it is split, and what is refused in a sentence."""

from __future__ import annotations

import numpy as np
import pytest
from refusals import refusal
from sample_files import jpeg, sound_file, write_folder, write_zip

from po2quant.benchmark import Split
from po2quant.data import own
from po2quant.data.own import read_dataset

RNG = np.random.default_rng(0)
SHAPE = (4, 3, 1)


def npz(folder, **arrays):
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return path


def parts(**samples):
    arrays = {f"x_{part}": RNG.integers(0, 255, (count, 4, 3), np.uint8) for part, count in samples.items()}
    return arrays | {f"y_{part}": np.arange(count) % 5 for part, count in samples.items()}


def test_validation_is_a_tenth_drawn_by_the_seed_with_the_classes_in_proportion(tmp_path):
    path = npz(tmp_path, **parts(train=100, test=7))
    first, again, other = (read_dataset(path, SHAPE, seed) for seed in (0, 0, 1))
    assert (len(first.train), len(first.validation), len(first.test)) == (90, 10, 7)
    assert np.bincount(first.validation.y).tolist() == [2] * 5
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    assert first.train.x.shape == (90, *SHAPE) and first.train.x.dtype == np.uint8
    assert first.train.y.dtype == np.int32
    assert first.describe() == "data.npz (own: 90 train, 10 validation, 7 test)"


def test_parts_that_are_there_stay_as_they_are(tmp_path):
    arrays = parts(train=5, validation=4, test=3)
    dataset = read_dataset(npz(tmp_path, **arrays), SHAPE, scale=0.5)
    for part in ("train", "validation", "test"):
        split = getattr(dataset, part)
        np.testing.assert_array_equal(split.inputs()[..., 0], arrays[f"x_{part}"] * np.float32(0.5))
        np.testing.assert_array_equal(split.y, arrays[f"y_{part}"])


def test_what_is_missing_is_said(tmp_path):
    dataset = read_dataset(npz(tmp_path, **parts(train=20)), SHAPE)
    assert dataset.test is dataset.validation
    assert "without test samples: the validation samples stand for them" in dataset.describe()


def test_test_samples_alone_are_data(tmp_path):
    dataset = read_dataset(npz(tmp_path, **parts(test=6)), SHAPE)
    assert dataset.train is None and dataset.validation is None and len(dataset.test) == 6


def test_targets_keep_what_they_are(tmp_path):
    x = np.zeros((4, 2))
    column = read_dataset(npz(tmp_path, x_test=x, y_test=np.arange(4)[:, None]), (2,)).test.y
    assert column.tolist() == [0, 1, 2, 3]
    assert read_dataset(npz(tmp_path, x_test=x, y_test=x), (2,)).test.y.dtype == np.float32
    assert read_dataset(npz(tmp_path, x_test=x), (2,)).test.y is None
    assert read_dataset(npz(tmp_path, x_test=x), (2,)).test.x.dtype == np.float32


REFUSED_ARRAYS = {
    "another name": (lambda: {"images": np.zeros((2, 4, 3))}, "its arrays must be named x_test, x_train"),
    "another shape": (lambda: {"x_test": np.zeros((2, 4, 4))}, "must have the shape (samples, 4, 3, 1)"),
    "text": (lambda: parts(test=2) | {"y_test": np.array(["a", "b"])}, "'y_test' in it must hold numbers"),
    "objects": (lambda: {"x_test": np.array([{}], object)}, "data.npz must be a .npz file of arrays"),
    "targets alone": (lambda: {"y_test": np.zeros(3)}, "must have inputs x_test beside y_test"),
    "half of the targets": (
        lambda: parts(train=20, test=2) | {"y_train": None},
        "must have targets for all parts or for none",
    ),
    "fewer targets": (lambda: parts(test=3) | {"y_test": np.zeros(2)}, "as many targets and groups as samples"),
    "nothing": (dict, "data must be a .npz file with x_train"),
    "NaN": (lambda: {"x_test": np.full((2, 4, 3), np.nan)}, "NaN or infinity in sample 0"),
    "one training sample": (lambda: parts(train=1, test=1), "two training samples or more"),
}


@pytest.mark.parametrize("case", REFUSED_ARRAYS)
def test_other_arrays_are_refused(case, tmp_path):
    arrays, reason = REFUSED_ARRAYS[case]
    given = {name: array for name, array in arrays().items() if array is not None}
    assert reason in refusal(read_dataset, npz(tmp_path, **given), SHAPE)


def test_a_small_file_that_unpacks_to_gigabytes_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(own, "SMALL_BYTES", 2**16)
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, x_test=np.zeros((100_000, 4, 3)))
    assert "members claim 9600" in refusal(read_dataset, path, SHAPE)


def sound(seconds):
    return sound_file(np.full(int(seconds * 16_000), 0.5, np.float32), subtype="FLOAT")


def test_pictures_in_class_folders_get_the_size_of_the_network(tmp_path):
    files = {f"{label}/{index}.jpg": jpeg(6 + index, 5, 10 * index) for label in "ab" for index in range(5)}
    dataset = read_dataset(write_folder(tmp_path / "set", files), (4, 4, 3))
    x, y = np.concatenate([dataset.train.x, dataset.test.x]), np.concatenate([dataset.train.y, dataset.test.y])
    assert x.shape == (10, 4, 4, 3) and x.dtype == np.uint8
    assert sorted(zip(y.tolist(), x[:, 0, 0, 0].tolist(), strict=True)) == [
        (label, 10 * index) for label in range(2) for index in range(5)
    ]
    assert read_dataset(tmp_path / "set", (4, 4, 1)).train.x.shape[1:] == (4, 4, 1)


def test_sounds_in_a_zip_file_with_parts_are_cut_and_filled_up(tmp_path):
    seconds = {"train": 0.5, "validation": 2, "test": 1}
    files = {f"{part}/{label}/clip.wav": sound(seconds[part]) for part in seconds for label in ("no", "yes")}
    path = write_zip(tmp_path / "clips.zip", files)
    dataset = read_dataset(path, (16_000, 1))
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [2, 2, 2]
    np.testing.assert_array_equal(dataset.train.x[:, :8000], 0.5)
    np.testing.assert_array_equal(dataset.train.x[:, 8000:], 0.0)
    np.testing.assert_array_equal(dataset.validation.x, np.full((2, 16_000, 1), 0.5, np.float32))
    assert sorted(dataset.test.y) == [0, 1]


REFUSED_FOLDERS = {
    "one class": ({"a/1.png": b""}, (4, 4, 3), "two class folders or more"),
    "no folders": ({"1.png": b"", "2.png": b""}, (4, 4, 3), "must lie in class folders"),
    "pictures and sounds": ({"a/1.png": b"", "b/1.wav": b""}, (4, 4, 3), "pictures or sounds. Received: both"),
    "features": ({"a/1.wav": b"", "b/1.wav": b""}, (49, 10, 1), "compute other features beforehand"),
    "a vector": ({"a/1.png": b"", "b/1.png": b""}, (16,), "must take (rows, columns, 1 or 3)"),
    "no picture": ({"a/1.png": b"GIF89a", "b/1.png": b"GIF89a"}, (4, 4, 3), "must be a complete JPEG"),
    "nothing": ({"a/readme.txt": b"x"}, (4, 4, 3), "two class folders or more"),
}


@pytest.mark.parametrize("case", REFUSED_FOLDERS)
def test_other_folders_are_refused(case, tmp_path):
    files, shape, reason = REFUSED_FOLDERS[case]
    assert reason in refusal(read_dataset, write_folder(tmp_path / "set", files), shape)


def test_another_kind_of_file_and_none_at_all_are_refused(tmp_path):
    (tmp_path / "table.csv").write_text("1,2")
    assert "Received: " in refusal(read_dataset, tmp_path / "table.csv", SHAPE)
    assert "There is none: " in refusal(read_dataset, tmp_path / "nowhere.npz", SHAPE)


def test_targets_that_are_inputs_are_split_with_them(tmp_path):
    dataset = read_dataset(npz(tmp_path, x_train=RNG.normal(size=(30, 4, 3))), SHAPE)
    assert (len(dataset.train), len(dataset.validation)) == (27, 3)
    assert isinstance(dataset.train, Split) and dataset.train.y is None
