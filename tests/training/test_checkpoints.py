"""Checkpoints: what a run left is read, and anything else ends in one line that names the file and changes nothing."""

from __future__ import annotations

import io
import zipfile

import keras
import numpy as np
import pytest
from mutations import mutated
from networks import state_of
from refusals import refusal

from po2quant.benchmark import Recipe
from po2quant.network import calibrate, flat_config, freeze_scales, quantize_model
from po2quant.training.fit import FitState, _load_checkpoint, _save_checkpoint, compile_model
from po2quant.training.schedules import constant

STATE = FitState([{"epoch": 1, "loss": 0.5}], 0.5, 0)


def float_network():
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])


def quantized_network():
    model = float_network()
    model = quantize_model(model, flat_config(model, 8))
    calibrate(model, np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32))
    freeze_scales(model)
    return model


def saved(path, network=float_network):
    """Return a network whose checkpoint is written."""
    model = network()
    compile_model(model, Recipe("mean_squared_error", 1, 1, 16, constant(1e-3)))
    _save_checkpoint(model, STATE, path)
    return model


def refused(model, path):
    """Return the refusal of a checkpoint, which leaves the network as it was."""
    before = state_of(model)
    message = refusal(_load_checkpoint, model, path)
    np.testing.assert_equal(state_of(model), before)
    assert message.startswith(f"checkpoint {path} is damaged or of another network: ") and len(message) < 600
    return message


def npy(header, content=b""):
    """Return an npy member with any header."""
    text = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


def with_member(path, name, content):
    """Replace a member of a zip archive, or leave it out."""
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()} | {name: content}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            if data is not None:
                archive.writestr(member, data)


HEADERS = {
    "cut": "{'descr': '<f4', (",
    "huge": f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**15},)}}",
    "huger": f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**30},)}}",
    "negative": "{'descr': '<f4', 'fortran_order': False, 'shape': (-4, -6)}",
    "object": "{'descr': '|O', 'fortran_order': False, 'shape': (6, 4)}",
    "complex": "{'descr': '<c8', 'fortran_order': False, 'shape': (6, 4)}",
    "deep": "(" * 5000,
    "long": "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1," * 5000 + ")}",
    "other": "{'descr': '<f8', 'fortran_order': False, 'shape': (6, 4)}",
}
STATES = [
    "[]",
    "{}}",
    "[" * 100_000,
    '{"rows": 3}',
    '{"rows": [3]}',
    '{"rows": [{"epoch": "1"}]}',
    '{"rows": [], "best_epoch": 5}',
    '{"rows": [], "best_epoch": 0.0}',
    '{"rows": [], "best_value": "high"}',
    '{"other": 1}',
]


@pytest.mark.parametrize("kind", HEADERS)
def test_an_array_with_a_wrong_header_is_refused(tmp_path, kind):
    model = saved(tmp_path / "c.npz")
    with_member(tmp_path / "c.npz", "variable_0.npy", npy(HEADERS[kind]))
    refused(model, tmp_path / "c.npz")


@pytest.mark.parametrize("text", STATES, ids=lambda text: text[:30])
def test_a_state_that_is_none_is_refused(tmp_path, text):
    model, file = saved(tmp_path / "c.npz"), io.BytesIO()
    np.save(file, np.array(text))
    with_member(tmp_path / "c.npz", "state.npy", file.getvalue())
    refused(model, tmp_path / "c.npz")


def test_an_archive_that_unpacks_to_more_than_the_network_needs_is_refused(tmp_path):
    model = saved(tmp_path / "c.npz")
    with_member(tmp_path / "c.npz", "state.npy", bytes(65 * 2**20))
    assert "more than the 671" in refused(model, tmp_path / "c.npz")


@pytest.mark.parametrize("name", ["variable_0.npy", "state.npy", "other.npy", "other"])
def test_a_missing_or_unknown_part_is_named(tmp_path, name):
    model = saved(tmp_path / "c.npz")
    if name.startswith("other"):
        with_member(tmp_path / "c.npz", name, b"")
    else:
        with_member(tmp_path / "c.npz", name, None)
    assert name.removesuffix(".npy") in refused(model, tmp_path / "c.npz")


@pytest.mark.parametrize(
    ("name", "value"), [("bit_width", 7), ("bit_width", 1000), ("frozen_scale", 2.0**120), ("kernel", np.nan)]
)
def test_a_value_that_no_run_leaves_is_refused_by_variable(tmp_path, name, value):
    model = saved(tmp_path / "c.npz", quantized_network)
    index, variable = next((i, variable) for i, variable in enumerate(model.variables) if variable.name == name)
    file = io.BytesIO()
    np.save(file, np.full(variable.shape, value, variable.dtype))
    with_member(tmp_path / "c.npz", f"variable_{index}.npy", file.getvalue())
    message = refused(model, tmp_path / "c.npz")
    assert variable.path in message
    assert "NaN" in message if name == "kernel" else f"{np.float32(value):.9g}" in message


def test_a_checkpoint_with_changed_bytes_resumes_or_is_refused_in_one_line(tmp_path):
    path, rng = tmp_path / "c.npz", np.random.default_rng(0)
    model = saved(path)
    data = path.read_bytes()
    before, read = state_of(model), 0
    for _ in range(150):
        path.write_bytes(mutated(data, rng))
        try:
            read += _load_checkpoint(model, path) == STATE
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            np.testing.assert_equal(state_of(model), before)
        else:
            before = state_of(model)
    assert read
