"""``po2quant export`` and ``po2quant verify``: files that compute, exit codes, and one sentence for a wrong input."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess

import numpy as np
import pytest
from deploy_runs import fine_tuned_run

from po2quant.deploy import from_keras
from po2quant.export.c.run import COMPILER, FLAGS
from po2quant.export.cores.emulator import CORES
from po2quant.files import read_csv
from po2quant.integer.program import Program

needs_gcc = pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"{COMPILER} is not installed")


@pytest.fixture(scope="module")
def run(digits, digits_data, digits_weights, tmp_path_factory):
    """Return the folder of a fine-tuning of one epoch."""
    return fine_tuned_run(digits, digits_data, digits_weights, tmp_path_factory.mktemp("cli_deploy") / "run")


@needs_gcc
def test_a_run_is_equal_in_every_integer_and_in_its_score(run, call):
    """More samples than there are: all of them, and it says so."""
    code, out, said = call("verify", run, "--samples", 1000, "--score", "--json")
    assert code == 0, out
    lines = said.splitlines()
    facts = json.loads(out)
    assert (facts["samples"], facts["mismatches"], facts["first"], facts["inexact"]) == (360, 0, None, [])
    assert (facts["benchmark"], facts["model"], facts["config"]) == ("digits", "ds_cnn", "flat8")
    assert facts["tensors"] > 5 and facts["integers"] > 360 * facts["tensors"]
    assert "the test split has 360 inputs: all are compared, not 1000" in lines
    assert sum(line.endswith("all equal") for line in lines) == 2
    trained = json.loads((run / "scores.json").read_text())["finetuned"]["value"]
    assert facts["score_c"] == facts["score_keras"] == trained


@pytest.mark.skipif(bool(CORES["m4"].missing_tools()), reason="the tools of core m4 are not installed")
def test_an_emulated_core_computes_every_integer_of_a_run(run, call):
    code, out, said = call("verify", run, "--samples", 2, "--core", "m4", "--json")
    assert code == 0, out
    assert "the C runs on an emulated Arm Cortex-M4" in said
    assert json.loads(out)["mismatches"] == 0


def test_an_unknown_core_is_refused_at_once(tmp_path, call):
    code, _, error = call("verify", tmp_path / "none", "--core", "m3")
    assert code and "'m3'" in error


@needs_gcc
def test_float_weights_are_calibrated_and_frozen_first(digits_weights, call):
    code, out, _ = call(
        "verify", "--benchmark", "digits", "--weights", digits_weights, "--config", "flat4", "--samples", 3
    )
    assert code == 0, out
    assert "digits ds_cnn, flat4, on scikit-learn digits" in out and "and 3 samples: all equal" in out


@needs_gcc
def test_options_win_over_the_run(run, digits_weights, call):
    arguments = ("--weights", digits_weights, "--config", "flat5", "--samples", 2, "--json")
    code, out, _ = call("verify", run, *arguments)
    facts = json.loads(out.splitlines()[-1])
    assert (code, facts["config"], facts["weights"]) == (0, "flat5", str(digits_weights))


@needs_gcc
def test_a_mismatch_ends_with_exit_code_1_and_both_integers(run, call, monkeypatch):
    """A program whose first layer computes one step more in its last channel."""

    def wrong_program(network):
        program = from_keras_program(network)
        first = program.operations[0]
        step = program.output_of(first).format.exponent - first.bias.exponents[-1]
        integers = first.bias.integers.copy()
        integers[-1] += 2 ** int(step)
        changed = dataclasses.replace(first, bias=dataclasses.replace(first.bias, integers=integers))
        return dataclasses.replace(program, operations=(changed, *program.operations[1:]))

    from_keras_program = from_keras.integer_program
    monkeypatch.setattr(from_keras, "integer_program", wrong_program)
    code, out, said = call("verify", run, "--samples", 4, "--json")
    assert code == 1
    facts = json.loads(out)
    first = facts["first"]
    assert facts["mismatches"] > 0 and first["layer"] == "conv2d"
    assert first["interpreter"] == first["Keras float64"] + 1
    place = ", ".join(map(str, first["index"]))
    assert f"in layer 'conv2d', tensor '{first['tensor']}', at ({place}): interpreter {first['interpreter']}" in said


def damaged(run, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(run, folder)
    weights = folder / "best.weights.h5"
    weights.write_bytes(weights.read_bytes()[:2000])
    return folder


def real_scales(run, tmp_path):
    folder = tmp_path / "real"
    shutil.copytree(run, folder)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"alpha": "auto"}))
    return folder


WRONG_RUNS = {
    "damaged weights": (damaged, (), "damaged"),
    "real scales": (real_scales, (), "made with alpha='auto'"),
    "no run": (lambda run, tmp_path: tmp_path / "nowhere", (), "nowhere"),
    "no samples": (lambda run, tmp_path: run, ("--samples", 0), "--samples must be 1 or more. Received: 0"),
    "less": (lambda run, tmp_path: run, ("--samples", -1), "--samples must be 1 or more. Received: -1"),
    "float": (lambda run, tmp_path: run, ("--config", "float"), "float network has no integers"),
    "widths": (lambda run, tmp_path: run, ("--config", "flat7"), "has 8 bits, not 7"),
    "data": (lambda run, tmp_path: run, ("--benchmark", "keyword_spotting", "--config", "flat8"), "--data-dir"),
}


@pytest.mark.parametrize("name", WRONG_RUNS)
def test_a_wrong_run_ends_in_one_sentence(name, run, call, tmp_path):
    folder, options, expected = WRONG_RUNS[name]
    code, out, error = call("verify", folder(run, tmp_path), *options)
    assert code == 2 and out == ""
    assert expected in error and len(error.strip().splitlines()) == 1


def test_a_network_is_needed(call):
    for command in ("verify", "export"):
        code, _, error = call(command)
        assert code == 2 and "RUN, a run folder, or --weights, a weight file" in error


def test_without_gcc_one_sentence_says_so(run, call, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, error = call("verify", run, "--samples", 1)
    assert code == 2 and "needs gcc on the PATH" in error and len(error.strip().splitlines()) == 1


def test_export_writes_a_program_that_loads_and_a_text(run, call, tmp_path):
    """The sizes that it says are the same for both."""
    code, out, _ = call("export", run, "--format", "program", "--output-dir", tmp_path)
    assert code == 0, out
    program = Program.load(tmp_path / "digits_ds_cnn_flat8.npz")
    assert str(tmp_path / "digits_ds_cnn_flat8.npz") in out and "bytes of arena" in out
    code, text_out, _ = call("export", run, "--format", "text", "--output-dir", tmp_path)
    text = (tmp_path / "digits_ds_cnn_flat8.txt").read_text()
    assert all(operation.name in text for operation in program.operations)
    assert out.splitlines()[1:] == text_out.splitlines()[1:]
    _, shown, _ = call("export", run)
    assert shown.startswith(text)


@needs_gcc
def test_exported_c_compiles_without_a_warning(run, call, tmp_path):
    """And packed weights make it smaller where they are narrow."""
    for format in ("c", "c-packed"):
        code, out, _ = call("export", run, "--format", format, "--output-dir", tmp_path / format)
        assert code == 0 and out.count(str(tmp_path / format)) == 3
        source = tmp_path / format / "digits_ds_cnn_flat8.c"
        subprocess.run([COMPILER, *FLAGS, "-Werror", "-c", source, "-o", tmp_path / "net.o"], check=True)


def test_export_needs_no_data_for_a_trained_run(run, call, tmp_path):
    """Its calibration is in the weight file."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"data_dir": "/nowhere"}))
    code, out, error = call("export", folder, "--format", "program", "--output-dir", tmp_path)
    assert code == 0, out + error


def test_an_unknown_format_is_refused(run, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, error = call("export", run, "--format", "pdf")
    assert code == 2 and "--format must be one of text, program, c, c-packed" in error and "'pdf'" in error
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_a_run_is_enough_with_its_configuration(run, call, tmp_path):
    """The same integers as those of the run."""
    weights = ("--weights", run / "best.weights.h5", "--config", run / "best_config.json")
    assert call("export", *weights, "--format", "program", "--output-dir", tmp_path)[0] == 0
    assert call("export", run, "--format", "program", "--output-dir", tmp_path)[0] == 0
    a, b = (Program.load(tmp_path / f"digits_ds_cnn_{name}.npz") for name in ("best_config", "flat8"))
    for ours, theirs in zip(a.operations, b.operations, strict=True):
        if hasattr(ours, "kernel"):
            np.testing.assert_array_equal(ours.kernel.integers, theirs.kernel.integers)
            np.testing.assert_array_equal(ours.bias.integers, theirs.bias.integers)
    assert a.tensors == b.tensors


@pytest.mark.parametrize(
    ("format", "package", "suffix"),
    [
        ("qonnx", "onnx", ".qonnx.onnx"),
        ("onnx", "onnx", ".onnx"),
        ("litert", "ai_edge_litert", ".tflite"),
        ("qkeras", "qkeras", ".keras"),
    ],
)
def test_files_for_other_tools(run, call, tmp_path, format, package, suffix):
    pytest.importorskip(package, reason="it comes with po2quant[exchange]")
    code, out, _ = call("export", run, "--format", format, "--output-dir", tmp_path)
    path = tmp_path / f"digits_ds_cnn_flat8{suffix}"
    assert code == 0 and path.stat().st_size > 1000
    assert out.startswith(f"{format}: {path}, {path.stat().st_size} bytes")
    assert "note: sums" not in out


@pytest.mark.slow
@needs_gcc
def test_a_reconstructed_network_is_verified_and_fine_tuned_as_any_run(digits_weights, call, tmp_path, monkeypatch):
    run = tmp_path / "run"
    options = ("--weights", digits_weights, "--config", "w4a4", "--samples", 128, "--steps", 30, "--output-dir", run)
    code, out, _ = call("reconstruct", *options, "--json")
    assert code == 0, out
    facts = json.loads(out.splitlines()[-1])
    assert facts["finetuned"] is None
    code, out, _ = call("verify", run, "--samples", 50)
    assert code == 0 and out.count("all equal") == 2, out
    rows = read_csv(run / "results.csv")
    assert [row["stage"] for row in rows] == ["calibrated", "calibrated", "reconstructed"]
    of_float, _, reconstructed = (float(row["score"]) for row in rows)
    assert reconstructed == pytest.approx(facts["reconstructed"]["value"], abs=1e-6)
    assert reconstructed > of_float - 0.05
    code, out, _ = call("evaluate", "--weights", run, "--config", run / "best_config.json")
    assert code == 0 and f"accuracy {facts['reconstructed']['value']:.4f}" in out
    tuned = ("--weights", run, "--config", run / "best_config.json", "--epochs", 1, "--output-dir", tmp_path / "tuned")
    assert call("finetune", *tuned)[0] == 0
    (run / "results.csv").unlink()  # as a kill before its last file leaves it
    monkeypatch.setattr("po2quant.training.reconstruct._Unit.learn", lambda *arguments: 1 / 0)
    assert call("reconstruct", *options, "--resume")[0] == 0
    again = read_csv(run / "results.csv")
    assert [row["score"] for row in again] == [row["score"] for row in rows]


def test_reconstruction_needs_bit_widths(digits_weights, call):
    code, _, error = call("reconstruct", "--weights", digits_weights, "--config", "float")
    assert code == 2 and error.splitlines() == ["error: --config must name bit widths, not float. Received: 'float'"]
