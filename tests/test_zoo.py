"""Trained networks by name: they are what the list says, and compute what they did when they were made."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
from refusals import complaint

from benchmarks.shared.digits.data import load_split
from po2quant import zoo
from po2quant.cli import main
from po2quant.export.c.run import compile_c
from po2quant.export.c.source import write_c
from po2quant.integer.interpreter import quantize_inputs, run

LARGEST_BYTES = 400 * 1024
NETWORKS = zoo.networks()


def test_the_folder_holds_what_the_list_says():
    assert {path.name for path in zoo.FOLDER.iterdir()} == {
        zoo.INDEX,
        *(network.file.name for network in NETWORKS.values()),
    }
    for benchmark in ("digits-ds_cnn", "keyword_spotting-ds_cnn"):
        assert {f"{benchmark}-{config}" for config in ("w8a8", "w4a8", "mpq")} <= set(NETWORKS)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_a_network_is_small_and_computes_what_it_did(network):
    assert network.file.stat().st_size < LARGEST_BYTES
    assert zoo.output_digest(network.load()) == network.digest
    assert network.command.startswith("po2quant finetune") and "CC BY 4.0" in network.licence
    assert "pretrained" not in network.command


@pytest.mark.parametrize("config", ["w8a8", "w4a8", "mpq"])
def test_digits_are_read_as_well_as_the_list_says(config):
    network = NETWORKS[f"digits-ds_cnn-{config}"]
    program, test = network.load(), load_split(360, 0.1).test
    tensors = run(program, quantize_inputs(program, test.inputs()))
    decided = tensors[program.outputs[0].tensor].argmax(axis=-1)
    assert len(test) == network.samples and round(float(np.mean(decided == test.y)), 6) == network.score


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_its_c_computes_the_same_integers(tmp_path):
    program = zoo.load_program("keyword_spotting-ds_cnn-w4a8")
    executable = compile_c(write_c(program, tmp_path, "kws"), tmp_path, flags=("-O1",))
    tensor = program.tensor[program.inputs[0]]
    x = np.random.default_rng(1).integers(tensor.format.min_int, tensor.format.max_int, (2, *tensor.shape))
    found, expected = executable.run([x]), run(program, [x])
    for output in program.outputs:
        np.testing.assert_array_equal(found[output.tensor], expected[output.tensor])


def test_an_unknown_name_is_refused_with_those_that_there_are():
    assert "keyword_spotting-ds_cnn-w4a8" in complaint(zoo.load_program, "keyword_spotting")


def test_the_command_lists_tells_and_writes(monkeypatch, capfd, tmp_path):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["po2quant", "zoo", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, *capfd.readouterr()

    code, out, _ = call()
    assert code == 0 and all(name in out for name in NETWORKS) and max(map(len, out.splitlines())) <= 80
    code, out, _ = call("digits-ds_cnn-w4a8", "--json")
    assert code == 0 and json.loads(out)["config"] == "w4a8"
    code, out, _ = call("digits-ds_cnn-w4a8", "--output-dir", tmp_path)
    assert code == 0 and {path.suffix for path in tmp_path.iterdir()} == {".c", ".h"}
    code, _, err = call("digits", "--output-dir", tmp_path)
    assert code == 2 and "NAME must be one of digits-ds_cnn-" in err
    code, _, err = call("digits-ds_cnn-w4a8", "--format", "qkeras", "--output-dir", tmp_path)
    assert code == 2 and "needs the Keras network" in err
