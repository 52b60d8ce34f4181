"""Run folders: never two runs in one, never half a file."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from po2quant.runs.folder import THREAD_VARIABLES, RunFolder, check_usable
from po2quant.runs.request import NetworkRequest, SearchRequest, read_request

ASKED = NetworkRequest(config="flat8", epochs=3)


def test_a_new_folder_keeps_its_arguments_and_environment(tmp_path, monkeypatch):
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    run = RunFolder(tmp_path / "a" / "b", ASKED)
    run.write_environment(seed=7)
    assert read_request(run.path) == ASKED
    environment = json.loads((run.path / "env.json").read_text())
    assert environment["seed"] == 7
    assert environment["versions"]["keras"]
    assert environment["threads"] == {"OMP_NUM_THREADS": "3"}


def test_a_folder_with_a_run_is_refused_without_resume(tmp_path):
    RunFolder(tmp_path / "run", ASKED)
    with pytest.raises(ValueError, match="output_dir must be new, or the run that it holds be resumed"):
        RunFolder(tmp_path / "run", ASKED)


def test_resume_allows_more_epochs_but_no_other_configuration(tmp_path):
    RunFolder(tmp_path / "run", ASKED)
    RunFolder(tmp_path / "run", dataclasses.replace(ASKED, epochs=9), resume=True)
    with pytest.raises(ValueError, match="config was 'flat8' and is 'flat4'"):
        RunFolder(tmp_path / "run", dataclasses.replace(ASKED, config="flat4"), resume=True)


def test_a_search_takes_more_trials_on_resume_but_no_longer_ones(tmp_path):
    search = SearchRequest(max_trials=5, epochs=3)
    RunFolder(tmp_path / "run", search)
    RunFolder(tmp_path / "run", dataclasses.replace(search, max_trials=9), resume=True)
    with pytest.raises(ValueError, match="epochs was 3 and is 9"):
        RunFolder(tmp_path / "run", dataclasses.replace(search, max_trials=9, epochs=9), resume=True)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_damaged_run_folder_is_named(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json must be what a run was asked for, as"):
        RunFolder(tmp_path, ASKED, resume=True)


def test_somebody_elses_folder_and_a_file_are_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(ValueError, match="not empty and holds no run"):
        RunFolder(tmp_path / "photos", ASKED)
    with pytest.raises(ValueError, match="must be a folder"):
        RunFolder(tmp_path / "photos" / "a.jpg", ASKED)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("left_over", [(), ("partial-config.json",), ("run.lock",), ("run.lock", "partial-env.json")])
def test_a_run_begins_in_a_folder_with_what_a_killed_process_leaves(tmp_path, left_over, resume):
    for name in left_over:
        (tmp_path / name).write_text("{")
    with RunFolder(tmp_path, ASKED, resume):
        assert read_request(tmp_path) == ASKED


@pytest.mark.parametrize("path", ["run-\udcff", "\udce4/run"])
def test_a_folder_that_text_cannot_name_is_refused_before_it_is_made(tmp_path, path):
    with pytest.raises(ValueError, match=r"must be text that UTF-8 can encode\. Received: .*\\udc"):
        RunFolder(tmp_path / path, ASKED)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"a folder where they can be written\. Received: .*file is none"):
        RunFolder(tmp_path / "file" / "run", ASKED)


HOLDER = """
import sys, time
from pathlib import Path
from po2quant.runs.folder import THREAD_VARIABLES, RunFolder, check_usable
from po2quant.runs.request import NetworkRequest, SearchRequest, read_request
with RunFolder(Path(sys.argv[1]), {"command": "finetune"}):
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Return a process that works in the folder ``run``."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_second_process_is_told_who_works_in_the_folder(holder, tmp_path):
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    expected = rf"is being worked on by process {holder.pid} on .* since 20.* \(-c .*run\)"
    for attempt in (RunFolder, check_usable):
        with pytest.raises(ValueError, match=expected):
            attempt(tmp_path / "run", {"command": "finetune"}, True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_kill_9_leaves_no_lock(holder, tmp_path):
    holder.kill()
    holder.wait()
    with RunFolder(tmp_path / "run", {"command": "finetune"}, resume=True):
        assert json.loads((tmp_path / "run" / "run.lock").read_text())["pid"] == os.getpid()


def test_a_folder_is_free_after_the_block_and_after_a_refusal(tmp_path):
    with RunFolder(tmp_path, ASKED):
        pass
    with pytest.raises(ValueError, match="holds another run"):
        RunFolder(tmp_path, dataclasses.replace(ASKED, config="flat4"), resume=True)
    with RunFolder(tmp_path, ASKED, resume=True):
        pass


def test_a_run_from_before_there_were_versions_goes_on(tmp_path):
    old = {"command": "finetune", "benchmark": "digits", "model": None, "alpha": "auto_po2", "weights": None, "seed": 0}
    (tmp_path / "config.json").write_text(json.dumps(old | {"preset": "published", "config": "flat8", "epochs": 2}))
    with RunFolder(tmp_path, ASKED, resume=True):
        assert json.loads((tmp_path / "config.json").read_text())["version"] == 1
