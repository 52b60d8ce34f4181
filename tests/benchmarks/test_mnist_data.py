"""MNIST's files: IDX of any shape, the same digits from every form, and one sentence for each wrong file."""

import gzip
import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from refusals import complaint
from sample_files import write_folder

from benchmarks.mnist import data, idx
from po2quant.benchmark import load_benchmark
from po2quant.cli.session import load_dataset
from po2quant.runs.request import NetworkRequest


def idx_file(array):
    """Return an array of unsigned bytes as the format's description says."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


@pytest.fixture(scope="module")
def digits():
    """Return small arrays of MNIST's shapes by their names in an archive."""
    rng = np.random.default_rng(0)
    counts = {"train": 40, "test": 20}
    pictures = {f"x_{part}": rng.integers(0, 256, (count, 28, 28), np.uint8) for part, count in counts.items()}
    classes = {f"y_{part}": (np.arange(count) % 10).astype(np.uint8) for part, count in counts.items()}
    return {name: (pictures | classes)[name] for name in data.ARRAYS}


@pytest.fixture(scope="module")
def idx_files(digits):
    """Return the contents of the four files by name."""
    return {part: idx_file(array) for part, array in zip(data.PARTS, digits.values(), strict=True)}


@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=1, max_dims=4, max_side=6)))
def test_an_idx_file_gives_back_what_was_written(array):
    read = idx.parse_idx(idx_file(array))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)


@given(st.binary(max_size=40))
def test_any_bytes_are_an_array_of_their_length_or_refused(content):
    try:
        array = idx.parse_idx(content)
    except ValueError as error:
        assert "Received" in str(error) and "\n" not in str(error)
    else:
        assert idx_file(array) == content


@given(arrays.arrays(np.uint8, (2, 3, 4)), st.integers(1, 39))
def test_a_shortened_or_lengthened_idx_file_is_refused(array, count):
    content = idx_file(array)
    assert "Received" in complaint(idx.parse_idx, content[:-count])
    assert "Received" in complaint(idx.parse_idx, content + bytes(count))


def test_a_shape_that_claims_gigabytes_takes_no_memory():
    claim = bytes([0, 0, 8, 3]) + 3 * (2**32 - 1).to_bytes(4, "big")
    assert "Received: 16 bytes" in complaint(idx.parse_idx, claim)


def test_packed_files_plain_files_and_the_archive_give_the_same_digits(tmp_path, digits, idx_files):
    plain = write_folder(tmp_path / "plain", idx_files)
    packed = write_folder(tmp_path / "packed", {f"{name}.gz": gzip.compress(file) for name, file in idx_files.items()})
    write_folder(tmp_path / "archive", {})
    np.savez(tmp_path / "archive" / "mnist.npz", **digits)
    places = (plain, packed, tmp_path / "archive", tmp_path / "archive" / "mnist.npz")
    prints = {data.load(place, seed=1).fingerprint() for place in places}
    assert len(prints) == 1
    dataset = data.load(plain, seed=1)
    assert dataset.describe() == "MNIST (subset: 36 train, 4 validation, 20 test)"
    assert dataset.test.x.shape == (20, 28, 28, 1) and dataset.test.y.dtype == np.int32
    assert dataset.test.inputs().max() <= 1.0
    found = {(x.tobytes(), y) for x, y in zip(dataset.test.x, dataset.test.y, strict=True)}
    assert found == {(x.tobytes(), y) for x, y in zip(digits["x_test"], digits["y_test"], strict=True)}


def test_the_command_line_takes_the_archive_itself_as_mnist(tmp_path, digits):
    """Its pixels are in units of 1 / 255; arrays of other names are what the network sees."""
    np.savez(tmp_path / "mnist.npz", **digits)
    np.savez(tmp_path / "mine.npz", **digits)
    largest = {}
    for name in ("mnist.npz", "mine.npz"):
        request = NetworkRequest(benchmark="mnist", data_dir=tmp_path / name, config="w8a8")
        largest[name] = load_dataset(load_benchmark("mnist"), request).test.inputs().max()
    assert largest["mnist.npz"] <= 1.0 < largest["mine.npz"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"t10k-labels-idx1-ubyte": None}, "without t10k-labels-idx1-ubyte"),
        ({"train-images-idx3-ubyte": idx_file(np.zeros((40, 28, 27), np.uint8))}, "(40, 28, 27)"),
        ({"train-images-idx3-ubyte": idx_file(np.zeros((39, 28, 28), np.uint8))}, "(39, 28, 28)"),
        ({"train-labels-idx1-ubyte": idx_file(np.arange(40).astype(np.uint8))}, "all of 0 to 9"),
        ({"train-labels-idx1-ubyte": idx_file(np.zeros(40, np.uint8))}, "all of 0 to 9"),
        ({"t10k-images-idx3-ubyte": b""}, "00 00 08"),
        ({"t10k-images-idx3-ubyte": b"\x00\x00\x0d\x01\x00\x00\x00\x00"}, "00 00 08"),
        ({"t10k-images-idx3-ubyte": None, "t10k-images-idx3-ubyte.gz": b"no gzip"}, "must be readable"),
        (
            {"t10k-images-idx3-ubyte": None, "t10k-images-idx3-ubyte.gz": gzip.compress(bytes(99))[:-9]},
            "must be readable",
        ),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence(change, named, idx_files, tmp_path):
    assert named in complaint(data.load, write_folder(tmp_path / "d", idx_files | change))


@pytest.mark.parametrize(
    "change", [{"x_test": None}, {"y_train": np.zeros(40)}, {"x_train": np.zeros((40, 3), np.uint8)}]
)
def test_an_archive_of_other_arrays_is_refused_in_one_sentence(change, digits, tmp_path):
    np.savez(tmp_path / "mnist.npz", **{name: array for name, array in (digits | change).items() if array is not None})
    assert next(iter(change)) in complaint(data.load, tmp_path)


def test_no_data_are_refused_by_the_names_of_the_files(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere"):
        assert "mnist.npz, or train-images-idx3-ubyte" in complaint(data.load, place)


def test_the_embedded_digits_lie_in_a_margin_as_those_of_mnist():
    dataset = data.load(None)
    assert dataset.describe().endswith("(embedded: 1293 train, 144 validation, 360 test)")
    assert dataset.test.x.shape[1:] == (28, 28, 1) and dataset.test.x.max() == 255
    assert not dataset.test.x[:, :4].any() and not dataset.test.x[:, :, -4:].any() and dataset.test.x[:, 4:24].any()


def test_download_brings_each_file_that_is_not_there(tmp_path, monkeypatch):
    (tmp_path / data.PARTS[1]).touch()
    fetched = []
    monkeypatch.setattr(data, "fetch", lambda source, folder: fetched.append((source.name, folder)))
    data.download(tmp_path)
    assert fetched == [(f"{part}.gz", tmp_path) for part in data.PARTS if part != data.PARTS[1]]
    assert all(
        len(bytes.fromhex(source.digest.removeprefix("sha256:"))) == hashlib.sha256().digest_size
        for source in data.SOURCES
    )


@pytest.mark.slow
def test_the_subset_has_all_classes_early_and_no_digit_twice(shared):
    dataset = data.load(shared("data/mnist.npz"))
    assert dataset.describe() == "MNIST (subset: 18000 train, 2000 validation, 5000 test)"
    parts = (dataset.train, dataset.validation, dataset.test)
    assert all(set(part.y[:100]) == set(range(10)) for part in parts)
    rows = [{x.tobytes() for x in part.x} for part in parts]
    assert not (rows[0] & rows[1] or rows[0] & rows[2] or rows[1] & rows[2])
