"""Program files: what is written comes back, and what is damaged is refused in a sentence."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from programs import X, every_operation, pack, unpacked
from refusals import complaint, refusal

from po2quant.integer.interpreter import run
from po2quant.integer.operations import Cell, Weights
from po2quant.integer.program import SCHEMA, Program


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "network.npz"
    every_operation().save(path)
    return path


def rewrite(path: Path, change) -> None:
    """Change the JSON and the arrays of a program file."""
    head, arrays = unpacked(path)
    change(head, arrays)
    pack(path, head, arrays)


def test_a_loaded_program_is_the_saved_one(path):
    """Every field of every operation, and every integer that it computes."""
    saved, loaded = every_operation(), Program.load(path)
    x = np.random.default_rng(1).integers(X.min_int, X.max_int + 1, (4, 6, 5, 4))
    for name, expected in run(saved, x).items():
        np.testing.assert_array_equal(run(loaded, x)[name], expected)
    assert repr(loaded) == repr(saved)
    assert (loaded.tensors, loaded.outputs) == (saved.tensors, saved.outputs)
    assert_same_fields(saved.operations, loaded.operations)


def assert_same_fields(saved, loaded):
    """Compare operations, those of cells included."""
    for ours, theirs in zip(saved, loaded, strict=True):
        for field in dataclasses.fields(ours):
            a, b = getattr(ours, field.name), getattr(theirs, field.name)
            if isinstance(a, Weights):
                np.testing.assert_array_equal(a.integers, b.integers)
                np.testing.assert_array_equal(a.exponents, b.exponents)
                assert a.bit_width == b.bit_width and b.integers.dtype == np.int64
            elif isinstance(a, Cell):
                assert (a.tensors, a.inputs, a.outputs) == (b.tensors, b.inputs, b.outputs)
                assert_same_fields(a.operations, b.operations)
            else:
                np.testing.assert_array_equal(a, b)


def test_a_file_is_the_same_bytes_each_time(path, tmp_path):
    """So that a checksum identifies a network."""
    every_operation().save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == path.read_bytes()


def test_integers_take_no_more_room_than_they_need(path):
    """8-bit weights are stored as bytes, exponents too."""
    with np.load(path, allow_pickle=False) as arrays:
        sizes = {arrays[name].dtype.itemsize for name in arrays.files if name != "json"}
    assert sizes == {1, 2, 4}  # the rest, the bias of 16 bits, that of 31


DAMAGES = {
    "schema": (lambda head, arrays: head.update(schema="other"), SCHEMA),
    "version": (lambda head, arrays: head.update(version=2), "version"),
    "no version": (lambda head, arrays: head.pop("version"), "version"),
    "no array": (lambda head, arrays: arrays.pop("array_0"), "array_0"),
    "float weights": (lambda head, arrays: arrays.update(array_2=np.full(8, 0.5)), "not an integer program"),
    "wide weights": (lambda head, arrays: arrays.update(array_0=np.full((3, 3, 1, 8), 200)), "8 bits"),
    "kernel shape": (lambda head, arrays: arrays.update(array_0=np.ones((3, 3, 8), int)), "not an integer program"),
    "table length": (lambda head, arrays: arrays.update(array_4=np.ones(63, int)), "table"),
    "table range": (lambda head, arrays: arrays.update(array_4=np.full(64, -1)), "table"),
    "unknown class": (lambda head, arrays: head["program"]["operations"][0].update({"class": "eval"}), "eval"),
    "unknown field": (lambda head, arrays: head["program"].update(extra=1), "extra"),
    "another class": (lambda head, arrays: head.update(program=head["program"]["outputs"][0]), "Output"),
    "activation": (lambda head, arrays: head["program"]["operations"][1].update(activation="tanh"), "tanh"),
    "strides": (lambda head, arrays: head["program"]["operations"][1].update(strides=[0, 2]), "not an integer program"),
    "shape": (lambda head, arrays: head["program"]["tensors"][2].update(shape=[3, 3, 7]), "shape"),
    "format": (lambda head, arrays: head["program"]["tensors"][1]["format"].update(exponent=-4), "format"),
    "bits": (lambda head, arrays: head["program"]["tensors"][1]["format"].update(bit_width=99), "bits"),
    "order": (lambda head, arrays: head["program"]["operations"].reverse(), "must read tensors that exist"),
    "missing operation": (lambda head, arrays: head["program"]["operations"].pop(), "'y'"),
    "twice": (lambda head, arrays: head["program"]["tensors"].append(head["program"]["tensors"][0]), "different names"),
    "input": (lambda head, arrays: head["program"].update(inputs=["nowhere"]), "nowhere"),
    "padding": (lambda head, arrays: head["program"]["operations"][10].update(padding=[[0, 2], [0, 0]]), "'max'"),
    "bias": (lambda head, arrays: arrays.update(array_2=np.ones(4, int), array_3=np.ones(4, int)), "bias"),
    "host function": (lambda head, arrays: head["program"]["outputs"][0].update(host_function="tanh"), "tanh"),
    "nothing": (lambda head, arrays: head.clear(), "schema"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_contents_are_refused(path, damage):
    """Whatever is wrong is named, with the file."""
    change, named = DAMAGES[damage]
    rewrite(path, change)
    message = refusal(Program.load, path)
    assert str(path) in message and named in message


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_cut_files_are_refused(path, kept):
    """As after a full disk."""
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    assert str(path) in refusal(Program.load, path)


def test_a_flipped_byte_is_refused_or_does_not_matter(path):
    """The archive's checksums find it, unless it is in a field that nobody reads, such as a date."""
    content, damaged, refused = path.read_bytes(), path.with_name("damaged.npz"), 0
    x = np.random.default_rng(1).integers(X.min_int, X.max_int + 1, (1, 6, 5, 4))
    expected = run(Program.load(path), x)["y"]
    places = range(5, len(content), 61)
    for place in places:
        damaged.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            np.testing.assert_array_equal(run(Program.load(damaged), x)["y"], expected)
        except ValueError as error:
            assert str(error).startswith(f"{damaged} is not an integer program")
            refused += 1
    assert refused > len(places) / 2


def test_other_files_are_refused(tmp_path):
    """Text, arrays, archives without a program, pickles, folders and no file at all."""
    path = tmp_path / "file.npz"
    path.write_text("not a program")
    refusal(Program.load, path)
    np.savez(path, a=np.zeros(3))
    refusal(Program.load, path)
    np.savez(path, json=np.array([{"a": 1}], object))
    assert "pickle" in refusal(Program.load, path)
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    refusal(Program.load, path)
    refusal(Program.load, tmp_path)
    refusal(Program.load, tmp_path / "absent.npz")


def test_a_failed_save_leaves_the_old_file(path, monkeypatch):
    """And nothing beside it."""
    old = path.read_bytes()
    monkeypatch.setattr(np, "savez_compressed", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        every_operation().save(path)
    assert path.read_bytes() == old and list(path.parent.iterdir()) == [path]


def test_weights_that_do_not_fit_their_bits_are_refused():
    """Floats, too wide integers, and a wrong number of exponents."""
    complaint(Weights, np.array([0.5]), np.array([0]), 8)
    complaint(Weights, np.array([1]), np.array([0.5]), 8)
    complaint(Weights, np.array([128]), np.array([0]), 8)
    complaint(Weights, np.array([1, 2]), np.array([0]), 8)


def test_neither_tensorflow_nor_keras_is_imported():
    """A device's tool chain runs a program with numpy alone."""
    modules = ("program", "operations", "plan", "interpreter", "listing")
    imports = ", ".join(f"po2quant.integer.{module}" for module in modules)
    code = f"import {imports}, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "po2quant.integer.interpreter" in loaded
    assert not {"tensorflow", "keras", "qkeras"} & set(loaded)
