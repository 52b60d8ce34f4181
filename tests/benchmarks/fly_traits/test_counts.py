import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deploy_runs import fine_tuned_run
from hypothesis import given
from hypothesis import strategies as st
from refusals import refusal

from benchmarks.fly_traits.anatomy import TRAITS
from benchmarks.fly_traits.boxes import anchors, encode, overlaps
from benchmarks.fly_traits.counts import (
    NAMES,
    Flies,
    chi_square,
    count_phenotypes,
    counted_otherwise,
    find_flies,
    main,
    read_pictures,
    write_tables,
)
from benchmarks.fly_traits.folder import encoded, read_folder, write_folder
from benchmarks.fly_traits.generator import PHENOTYPES, draw_picture
from benchmarks.fly_traits.networks import main as write_networks
from benchmarks.fly_traits.networks import networks_of_run
from benchmarks.fly_traits.running import Running, running
from po2quant.deploy.from_keras import integer_program
from po2quant.export.c.run import COMPILER
from po2quant.runs.names import BEST_WEIGHTS
from po2quant.weight_files import load_weights

SIZE = 256


def knowing(boxes: np.ndarray) -> Running:
    """A detector whose every output is the code of what is there."""
    seen_from = anchors(SIZE, SIZE)
    output = np.full((1, len(seen_from), 5), -9.0, np.float32)
    for box in boxes:
        anchor = int(np.argmax(overlaps(seen_from, box[None])[:, 0]))
        output[0, anchor] = (9.0, *encode(box, seen_from[anchor]))
    return Running(lambda x: output, SIZE)


def test_flies_of_a_large_picture_are_cut_at_its_own_resolution_and_counted_by_phenotype() -> None:
    picture = draw_picture(0, 2 * SIZE, 30)
    shown: list[np.ndarray] = []

    def classify(x: np.ndarray) -> np.ndarray:
        shown.append(x)
        return np.tile((0.9, 0.1, 0.7, 0.3), (len(x), 1))

    flies = find_flies(picture.pixels, knowing(picture.boxes / 2), Running(classify, 48))
    assert len(flies.boxes) == 30 and overlaps(flies.boxes, picture.boxes).max(axis=1).min() > 0.99
    assert shown[0].shape == (30, 48, 48, 3) and shown[0].dtype == np.float32 and shown[0].max() <= 1
    assert flies.traits.shape == (30, 3)
    assert count_phenotypes([flies]).tolist() == [0, 0, 30, 0, 0, 0, 0, 0]
    assert NAMES[2] == "long white female"


def test_a_picture_without_flies_has_none_and_nothing_is_classified() -> None:
    flies = find_flies(np.zeros((40, 60, 3), np.uint8), knowing(np.zeros((0, 4))), Running(lambda x: 1 / 0, 32))
    assert len(flies.boxes) == 0 and count_phenotypes([flies, flies]).tolist() == [0] * 8


def test_every_phenotype_is_counted_at_its_own_place() -> None:
    probabilities = np.array(PHENOTYPES) * 0.8 + 0.1
    flies = Flies(np.ones((8, 4), np.float32), np.ones(8, np.float32), probabilities)
    assert flies.phenotypes.tolist() == [*range(8)]


@given(st.lists(st.integers(0, 50), min_size=8, max_size=8), st.sampled_from([(9, 3, 3, 1), (1, 2, 3, 4, 5, 6, 7, 8)]))
def test_chi_square_is_the_sum_over_classes(counts: list[int], ratio: tuple[int, ...]) -> None:
    counts[0] += 1
    test = chi_square(np.array(counts), ratio)
    pooled = counts if len(ratio) == 8 else [counts[at] + counts[at + 1] for at in range(0, 8, 2)]
    expected = [sum(counts) * share / sum(ratio) for share in ratio]
    assert test.counts.tolist() == pooled
    assert test.chi_square == pytest.approx(sum((a - b) ** 2 / b for a, b in zip(pooled, expected, strict=True)))
    assert test.degrees_of_freedom == len(ratio) - 1 and 0 <= test.p_value <= 1


def test_mendels_peas_have_the_p_value_of_textbooks() -> None:
    """315, 108, 101 and 32 round yellow, round green, wrinkled yellow and wrinkled green seeds: 0.47 at 3, p 0.925."""
    test = chi_square(np.array((315, 0, 108, 0, 101, 0, 32, 0)), (9, 3, 3, 1))
    assert (round(test.chi_square, 3), round(test.p_value, 3)) == (0.470, 0.925)


@pytest.mark.parametrize("ratio", [(1, 2, 3), (9, 3, 3, 0), (9, 3, 3, -1), (9, 3, 3, float("nan"))])
def test_another_ratio_is_refused(ratio: tuple[float, ...]) -> None:
    assert "four or eight positive numbers" in refusal(chi_square, np.ones(8, np.int64), ratio)


def test_no_flies_have_no_ratio() -> None:
    assert "one fly or more" in refusal(chi_square, np.zeros(8, np.int64), (9, 3, 3, 1))


def test_a_fly_is_counted_otherwise_where_one_form_alone_finds_it_or_calls_it_another() -> None:
    picture = draw_picture(0, 128, 10)
    right = picture.traits * 0.8 + 0.1

    def flies(count: int, traits: np.ndarray = right) -> dict[str, Flies]:
        return {"a": Flies(picture.boxes[:count], np.ones(count, np.float32), traits[:count])}

    other = np.concatenate((1 - right[:1], right[1:]))
    assert counted_otherwise(flies(10), flies(10)) == 0
    assert counted_otherwise(flies(8), flies(10)) == counted_otherwise(flies(10), flies(8)) == 2
    assert counted_otherwise(flies(10, other), flies(10)) == 1


def test_tables_have_a_row_a_fly_and_a_row_a_form(tmp_path: Path) -> None:
    flies = Flies(np.ones((8, 4), np.float32), np.ones(8, np.float32), np.array(PHENOTYPES) * 0.8 + 0.1)
    write_tables({"integer": {"a.png": flies, "b.png": flies}, "c": {"a.png": flies}}, (9, 3, 3, 1), tmp_path)
    with open(tmp_path / "flies.csv") as file:
        rows = [*csv.DictReader(file)]
    assert len(rows) == 24 and [row["phenotype"] for row in rows[:8]] == [*NAMES] and float(rows[0]["wing"]) == 0.9
    with open(tmp_path / "counts.csv") as file:
        counts = [*csv.DictReader(file)]
    assert [[int(row[name]) for name in NAMES] for row in counts] == [[2] * 8, [1] * 8]
    assert [row["otherwise_than_integers"] for row in counts] == ["0", "0"]


def test_pictures_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    assert "readable" in refusal(read_pictures, [tmp_path / "absent.png"])
    (tmp_path / "a.png").write_bytes(b"none")
    assert "a.png" in refusal(read_pictures, [tmp_path / "a.png"])
    (tmp_path / "a.png").write_bytes(encoded(np.zeros((8, 8, 3), np.uint8)))
    assert "twice" in refusal(read_pictures, [tmp_path / "a.png"] * 2)


def test_what_is_missing_or_unknown_ends_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").write_bytes(encoded(np.zeros((8, 8, 3), np.uint8)))
    picture, networks = str(tmp_path / "a.png"), ["--networks", str(tmp_path)]
    for arguments in (
        [picture, *networks, "--ratio", "9:3"],
        [picture, *networks, "--ratio", "a:b"],
        [picture, *networks],
    ):
        with pytest.raises(SystemExit) as end:
            main([*arguments, "--forms", "integer"])
        assert end.value.code == 2 and capsys.readouterr().err.count("\n") == 1
    assert "form must be" in refusal(running(tmp_path, "analog").__enter__)
    with pytest.raises(SystemExit):
        write_networks(["--detector", str(tmp_path), "--output-dir", str(tmp_path)])


def test_written_pictures_are_read_back_with_all_that_is_known(tmp_path: Path) -> None:
    pictures = {f"{seed}": draw_picture(seed, 128, 5) for seed in range(2)}
    write_folder(tmp_path, pictures)
    found = read_folder(tmp_path)
    assert [*found] == ["images/0.png", "images/1.png"]
    for expected, picture in zip(pictures.values(), found.values(), strict=True):
        np.testing.assert_array_equal(picture.pixels, expected.pixels)
        np.testing.assert_array_equal(picture.traits, expected.traits)
        np.testing.assert_allclose(picture.boxes, expected.boxes, atol=1e-3)
        np.testing.assert_allclose(picture.key_points, expected.key_points, atol=0.006)


@pytest.mark.slow
def test_a_run_gives_the_float_network_that_it_began_with_and_the_frozen_one(
    digits: Any, digits_data: Any, digits_weights: Path, tmp_path: Path
) -> None:
    run = fine_tuned_run(digits, digits_data, digits_weights, tmp_path / "run")
    (run / "float").mkdir()
    shutil.copy(digits_weights / BEST_WEIGHTS, run / "float" / BEST_WEIGHTS)
    model, frozen = networks_of_run(run)
    expected = digits.network()[1].new_network()
    load_weights(expected, digits_weights)
    for found, weights in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(found, weights)
    assert integer_program(frozen).outputs


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"{COMPILER} is not installed")
def test_integers_of_numpy_and_c_find_and_call_the_same_flies(tmp_path: Path) -> None:
    import keras

    import po2quant as pq

    rng, size = np.random.default_rng(0), 32
    shapes = {"detector": (len(anchors(size, size)), 5), "classifier": (len(TRAITS),)}
    for name, shape in shapes.items():
        inputs = keras.Input((size, size, 3))
        x = keras.layers.Flatten()(keras.layers.MaxPooling2D(8)(inputs))
        outputs = keras.layers.Reshape(shape)(keras.layers.Dense(int(np.prod(shape)))(x))
        model = keras.Model(inputs, outputs)
        model.save(tmp_path / f"{name}.keras")
        frozen = pq.freeze(pq.quantize(model, rng.random((16, size, size, 3), np.float32), config="flat8"))
        pq.export(frozen, tmp_path, "program", name)
    (tmp_path / "a.png").write_bytes(encoded(draw_picture(0, 64, 4).pixels))
    main([str(tmp_path / "a.png"), "--networks", str(tmp_path), "--output-dir", str(tmp_path / "out")])
    with open(tmp_path / "out" / "flies.csv") as file:
        rows = [*csv.DictReader(file)]
    found = {form: [{**row, "form": ""} for row in rows if row["form"] == form] for form in ("float", "integer", "c")}
    assert found["integer"] and found["integer"] == found["c"] and found["float"]
    assert (tmp_path / "out" / "a.png").stat().st_size > 1000
