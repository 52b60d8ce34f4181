"""Arrays that are kept: made once, and made anew where the file is damaged."""

import numpy as np
import pytest

from benchmarks.shared.cache import CACHE_FOLDER, cached
from po2quant.data.arrays import Expected
from po2quant.data.budgets import MEMBER_BYTES


class Maker:
    """Counts how often the arrays are made."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"x": np.arange(12, dtype=np.int16).reshape(3, 4), "names": np.array(["a", "bc"])}


EXPECTED = {"x": Expected("i", (3, 4), 24), "names": Expected("U", (None,))}


def check(arrays):
    """Check values and types."""
    assert arrays.keys() == {"x", "names"} and arrays["x"].dtype == np.int16
    np.testing.assert_array_equal(arrays["x"], np.arange(12).reshape(3, 4))
    assert arrays["names"].tolist() == ["a", "bc"]


def test_made_once(tmp_path):
    """The second call reads the file; another key makes the arrays anew."""
    make = Maker()
    for _ in range(3):
        check(cached(tmp_path, "key", EXPECTED, make))
    assert make.calls == 1
    cached(tmp_path, "other", EXPECTED, make)
    assert make.calls == 2
    assert sorted(path.name for path in (tmp_path / CACHE_FOLDER).iterdir()) == ["key.npz", "other.npz"]


def test_larger_than_other_files(tmp_path):
    """What is kept may be larger than a file of an archive: the features of all of Speech Commands have 167 MB."""
    make, size = Maker(), MEMBER_BYTES + 1
    for _ in range(2):
        arrays = cached(
            tmp_path, "key", {"x": Expected("i", (size,), size)}, lambda: make() | {"x": np.ones(size, "i1")}
        )
        assert arrays["x"].shape == (size,) and arrays["x"][-1] == 1
    assert make.calls == 1


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated(tmp_path, share):
    """A truncated file is made anew."""
    make = Maker()
    cached(tmp_path, "key", EXPECTED, make)
    path = tmp_path / CACHE_FOLDER / "key.npz"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    check(cached(tmp_path, "key", EXPECTED, make))
    check(cached(tmp_path, "key", EXPECTED, make))
    assert make.calls == 2


@pytest.mark.parametrize(
    "save",
    [
        lambda file: np.savez(file, x=np.array([{}])),
        lambda file: np.save(file, [1]),
        lambda file: np.savez(file, x=np.zeros((3, 5), np.int16), names=np.array(["a", "bc"])),
        lambda file: np.savez(file, x=np.zeros((3, 4)), names=np.array(["a", "bc"])),
        lambda file: np.savez_compressed(file, x=np.zeros(10**6, np.int16), names=np.array(["a", "bc"])),
    ],
)
def test_foreign(tmp_path, save):
    """A file with pickled objects is not unpickled but made anew, and so is another kind of file, or other arrays."""
    make = Maker()
    (tmp_path / CACHE_FOLDER).mkdir()
    with open(tmp_path / CACHE_FOLDER / "key.npz", "wb") as file:
        save(file)
    check(cached(tmp_path, "key", EXPECTED, make))
    assert make.calls == 1


def test_nowhere_to_write(tmp_path):
    """Where the folder cannot be made, the arrays are returned all the same."""
    make = Maker()
    (tmp_path / CACHE_FOLDER).write_text("a file")
    check(cached(tmp_path, "key", EXPECTED, make))
    check(cached(tmp_path, "key", EXPECTED, make))
    assert make.calls == 2 and (tmp_path / CACHE_FOLDER).read_text() == "a file"


def test_failed_make(tmp_path):
    """What making the arrays complains about is passed on, and nothing is kept."""

    def fail():
        raise ValueError("broken data")

    with pytest.raises(ValueError, match="broken data"):
        cached(tmp_path, "key", EXPECTED, fail)
    assert not list(tmp_path.iterdir())
