"""Single flies for the classifier."""

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.fly_traits.data import load, split_of, synthesize
from benchmarks.fly_traits.folder import COLUMNS, LEAST_PICTURES
from benchmarks.fly_traits.generator import crops


def _png():
    buffer = io.BytesIO()
    Image.fromarray(np.full((40, 60, 3), 200, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Five pictures of two flies each, of which the first alone has traits."""
    rows = [",".join(COLUMNS)]
    for number in range(LEAST_PICTURES):
        (tmp_path / f"p{number}.png").write_bytes(_png())
        (tmp_path / f"p{number}.txt").write_text("0 0.3 0.5 0.2 0.4\n0 0.7 0.5 0.2 0.4\n")
        rows.append(f"p{number},0,long,,female")
    (tmp_path / "traits.csv").write_text("\n".join(rows))
    return tmp_path


def test_flies_of_own_pictures_are_those_with_a_known_trait(folder):
    dataset = load(folder, seed=0, size=16)
    assert dataset.kind == "own" and [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [
        3,
        1,
        1,
    ]
    assert dataset.train.x.shape == (3, 16, 16, 3) and dataset.train.x.dtype == np.uint8
    np.testing.assert_array_equal(dataset.train.y[:, :3], [[1, np.nan, 1]] * 3)
    assert np.all(np.isnan(dataset.train.y[:, 3:]))


def test_pictures_without_traits_are_refused(folder):
    (folder / "traits.csv").unlink()
    with pytest.raises(ValueError, match=r"traits.csv must have traits .* Received"):
        load(folder, seed=0, size=16)


def test_synthetic_flies_are_named_so_and_tested_on_the_same_ones_for_every_seed(monkeypatch):
    monkeypatch.setattr("benchmarks.fly_traits.data.SAMPLES", {"train": 3, "validation": 2, "test": 4})
    first, other = (synthesize(seed, size=16) for seed in (0, 1))
    assert first.kind == "synthetic" and "synthetic" in first.name
    np.testing.assert_array_equal(first.test.x, other.test.x)
    parts = [part.x[0].tobytes() for data in (first, other) for part in (data.train, data.validation)]
    assert len({*parts, first.test.x[0].tobytes()}) == 5


def test_a_sample_is_a_picture_with_its_traits_and_key_points():
    flies = crops(5, 16, 0)
    split = split_of(flies)
    np.testing.assert_array_equal(split.y[:, :3], flies.traits)
    np.testing.assert_array_equal(split.y[:, 3:5], flies.key_points[:, 0])
