"""Options that all commands have: how much they say, and for whom; options in a file."""

from __future__ import annotations

import json
import sys

import pytest

from po2quant.cli import main

SUMMARY = ("summary", "--config", "flat8")


@pytest.fixture
def call(monkeypatch, capfd):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["po2quant", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, *capfd.readouterr()

    return run


def test_json_stands_alone_on_standard_output(call):
    code, out, err = call(*SUMMARY, "--json")
    facts = json.loads(out)
    assert code == 0 and facts["config"] == "flat8" and facts["rows"][-1]["layer"] == "total"
    assert "conv2d" in err and "trial_size=" in err


def test_quiet_json_says_nothing_else(call):
    code, out, err = call(*SUMMARY, "--json", "-q")
    assert (code, err) == (0, "") and json.loads(out)


def test_a_table_fits_eighty_columns(call):
    _, out, _ = call(*SUMMARY)
    lines = out.splitlines()
    table = lines[: next(index for index, line in enumerate(lines) if "stats" in line.lower() or "=" in line)]
    assert "conv2d" in out and max(map(len, table)) <= 80


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.json", '{"config": "flat5", "alpha": "auto"}'),
        ("run.yaml", "config: flat5\nalpha: auto\n"),
    ],
)
def test_options_of_a_file_hold_unless_the_command_line_says_otherwise(call, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    code, out, _ = call("summary", "--options", tmp_path / name, "--json")
    assert code == 0 and json.loads(out)["config"] == "flat5"
    _, out, _ = call("summary", "--options", tmp_path / name, "--config", "flat6", "--json")
    assert json.loads(out)["config"] == "flat6"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("confg: flat8", "an option must be one of alpha, benchmark, config,"),
        (
            "config: {a: 1}",
            "config must be a text, a number, true, false or a list of texts or numbers. Received: dict",
        ),
        ("config: flat99", "--config must be float, mpq, flat4 to flat16"),
        ("- config", "must be a mapping of options. Received: list"),
        ("config: [", "must be YAML. Received: while parsing"),
        (
            "config: !!python/object/apply:os.system ['true']",
            "must be YAML. Received: could not determine a constructor",
        ),
    ],
)
def test_a_wrong_file_of_options_is_one_sentence(call, tmp_path, text, sentence):
    (tmp_path / "run.yaml").write_text(text)
    code, out, err = call("summary", "--options", tmp_path / "run.yaml")
    assert (code, out) == (2, "") and sentence in err and err.count("\n") == 1


def test_lists_and_numbers_of_a_file_are_as_on_the_command_line(call, tmp_path):
    (tmp_path / "run.yaml").write_text("kernel-bits: [8, 4]\nmax_trials: 3\n")
    code, _, err = call("search", "--options", tmp_path / "run.yaml")
    assert code == 2 and "kernel" in err and "(8, 4)" in err


def test_quiet_and_verbose_exclude_each_other(call):
    code, _, err = call(*SUMMARY, "-q", "-v")
    assert code == 2 and "exclude each other" in err


def test_every_command_has_examples_and_the_common_options(call):
    for command in (
        "check",
        "summary",
        "evaluate",
        "search",
        "reconstruct",
        "finetune",
        "matrix",
        "diagnose",
        "verify",
    ):
        _, out, _ = call(command, "--help")
        assert f"Examples:\n    po2quant {command} " in out
        for option in ("--json", "-q, --quiet", "-v, --verbose", "--options"):
            assert option in out
