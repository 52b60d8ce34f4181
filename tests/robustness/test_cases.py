"""Attacks that once worked, through the command line: nothing runs, nothing is written, one sentence says why."""

from __future__ import annotations

import dataclasses
import json
import sys
import zipfile

import pytest
from selections import slow_but

from benchmarks.studies.robustness.text import json_text
from benchmarks.studies.robustness.values import CANARY, MODULE, nested
from po2quant.bit_config import BitConfig
from po2quant.runs.names import BEST_CONFIG, BEST_WEIGHTS, REQUEST_FILE
from po2quant.runs.request import MatrixRequest, NetworkRequest, SearchRequest
from po2quant.uniform import CONFIG_HELP

EVIL = f"open({CANARY!r}, 'w').close()\nX = None\n"


@pytest.fixture
def said(monkeypatch, call, tmp_path):
    """Return a function that runs a command in an empty folder, which must refuse it, and returns its sentence."""
    monkeypatch.chdir(tmp_path)

    def refused(*words: object) -> str:
        code, _, message = call(*words)
        assert code == 2 and message.startswith("error: ") and message.count("\n") == 1
        assert message[:-1].isprintable() and len(message) < 1100 and "unexpected" not in message
        return message

    return refused


RUN_COMMANDS = (("export", "."), ("verify", "."), ("diagnose", ".", "--mode-sweep"))


@pytest.mark.parametrize("words", RUN_COMMANDS, ids=lambda words: words[0])
def test_a_module_that_a_run_folder_names_is_not_imported(words, said, tmp_path):
    (tmp_path / f"{MODULE}.py").write_text(EVIL)
    NetworkRequest(benchmark=f"{MODULE}:X", config="flat8").save(tmp_path)
    for name in (BEST_CONFIG, BEST_WEIGHTS):
        (tmp_path / name).touch()
    assert f"--benchmark {MODULE}:X" in said(*words)
    assert not (tmp_path / CANARY).exists() and MODULE not in sys.modules


@pytest.mark.parametrize("kind", [NetworkRequest, SearchRequest, MatrixRequest])
@pytest.mark.parametrize(
    "value", slow_but((10**30, "\x00" * 300), [None, 1.5, -1, 10**30, [], {}, [["a"]], "\x00" * 300, "x" * 5000])
)
def test_a_value_of_another_type_in_config_json_is_one_sentence(kind, value, said, tmp_path):
    may_be_none = {"model", "weights", "data", "data_dir", "epochs", "max_kib"}
    fields = [field.name for field in dataclasses.fields(kind) if value is not None or field.name not in may_be_none]
    kind().save(tmp_path)
    right = json.loads((tmp_path / REQUEST_FILE).read_text())
    for field in fields:
        (tmp_path / REQUEST_FILE).write_text(json.dumps(right | {field: value}))
        said("export", ".")


@pytest.mark.parametrize("name", ["flat\uff18", "flat08", "flat+8", "flat8 ", "flat8.0", "flat\u0668"])
def test_only_plain_digits_name_a_flat_configuration(name, said):
    assert f"--config must be {CONFIG_HELP}" in said("summary", "--config", name)


@pytest.mark.parametrize("version", ["1.0", "true", '"1"', "[1]", "null", "1e0"])
def test_the_version_of_a_configuration_is_a_whole_number(version, said, tmp_path):
    text = BitConfig.flat(["conv"], ["conv"], 8).to_json()
    (tmp_path / "a.json").write_text(text.replace('"version": 1', f'"version": {version}'))
    assert "a.json: version must be 1" in said("summary", "--config", "a.json")


def test_files_that_are_too_deep_are_named(said, tmp_path):
    (tmp_path / "a.json").write_bytes(json_text(nested(5000)))
    (tmp_path / REQUEST_FILE).write_bytes(json_text({"benchmark": nested(5000)}))
    assert "a.json" in said("summary", "--config", "a.json")
    assert REQUEST_FILE in said("export", ".")


@pytest.mark.parametrize(
    "words", [("evaluate", "--config", "flat8", "--weights"), ("diagnose",)], ids=["evaluate", "diagnose"]
)
def test_an_encrypted_or_foreign_weight_file_is_named(words, said, tmp_path):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.weights.h5", b"x" * 100)
        archive.writestr("config.json", b"{}")
    assert "model.keras" in said(*words, path.name)
    content = bytearray(path.read_bytes())
    for entry in (b"PK\x03\x04", b"PK\x01\x02"):
        content[content.index(entry) + (6 if entry == b"PK\x03\x04" else 8)] |= 1
    path.write_bytes(content)
    message = said(*words, path.name)
    assert "model.keras" in message and "encrypted" in message


def test_options_of_thousands_of_characters_are_cut(said):
    for words in (
        ("summary", "--config"),
        ("summary", "--benchmark"),
        ("summary", "--model"),
        ("evaluate", "--weights"),
    ):
        message = said(*words, "x" * 3000)
        assert "xxx..." in message and len(message) < 700
