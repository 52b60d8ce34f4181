"""Run folders: never two runs in one, never half a file."""

import json

import pytest

from po2quant.runs.folder import THREAD_VARIABLES, RunFolder

ARGUMENTS = {"command": "finetune", "config": "flat8", "epochs": 3}


def test_a_new_folder_keeps_its_arguments_and_environment(tmp_path, monkeypatch):
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    run = RunFolder(tmp_path / "a" / "b", ARGUMENTS)
    run.write_environment(seed=7)
    assert json.loads((run.path / "config.json").read_text()) == ARGUMENTS
    environment = json.loads((run.path / "env.json").read_text())
    assert environment["seed"] == 7
    assert environment["versions"]["keras"]
    assert environment["threads"] == {"OMP_NUM_THREADS": "3"}


def test_a_folder_with_a_run_is_refused_without_resume(tmp_path):
    RunFolder(tmp_path / "run", ARGUMENTS)
    with pytest.raises(ValueError, match="already holds a run: add --resume"):
        RunFolder(tmp_path / "run", ARGUMENTS)


def test_resume_allows_more_epochs_but_no_other_configuration(tmp_path):
    RunFolder(tmp_path / "run", ARGUMENTS)
    RunFolder(tmp_path / "run", ARGUMENTS | {"epochs": 9}, resume=True)
    with pytest.raises(ValueError, match="config was 'flat8' and is 'flat4'"):
        RunFolder(tmp_path / "run", ARGUMENTS | {"config": "flat4"}, resume=True)


def test_a_search_takes_more_trials_on_resume_but_no_longer_ones(tmp_path):
    search = ARGUMENTS | {"command": "search", "max_trials": 5}
    RunFolder(tmp_path / "run", search)
    RunFolder(tmp_path / "run", search | {"max_trials": 9}, resume=True)
    with pytest.raises(ValueError, match="epochs was 3 and is 9"):
        RunFolder(tmp_path / "run", search | {"max_trials": 9, "epochs": 9}, resume=True)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_damaged_run_folder_is_named(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json must be what a run was asked for, as"):
        RunFolder(tmp_path, ARGUMENTS, resume=True)


def test_somebody_elses_folder_and_a_file_are_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(ValueError, match="not empty and holds no run"):
        RunFolder(tmp_path / "photos", ARGUMENTS)
    with pytest.raises(ValueError, match="must be a folder"):
        RunFolder(tmp_path / "photos" / "a.jpg", ARGUMENTS)
