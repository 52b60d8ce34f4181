"""The files that start a search on clusters, as processes on this machine."""

import csv
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "scripts" / "cluster"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.slow
def test_role_scripts_run_a_search_with_a_worker_that_is_killed(digits_weights, tmp_path):
    command, code = tmp_path / "po2quant", "from po2quant.search import distributed; distributed.SILENCE_SECONDS = 8"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}; from po2quant.cli import main; main()" "$@"\n')
    command.chmod(0o755)
    environment = os.environ | {"PO2QUANT": str(command), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    options = ["--benchmark", "digits", "--weights", str(digits_weights), "--preset", "small"]
    options += ["--max-trials", "4", "--epochs", "1", "--strategy", "random"]
    oracle, run = f"127.0.0.1:{free_port()}", tmp_path / "run"

    def start(number):
        words = [CLUSTER / "role.sh", str(number), oracle, run, *options]
        return subprocess.Popen(words, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    processes = {number: start(number) for number in range(3)}
    try:
        deadline = time.monotonic() + 300
        while not any(run.glob("workers/*/trials")) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert processes[2].poll() is None
        processes[2].kill()
        assert processes[0].wait(500) == 0
    finally:
        for process in processes.values():
            process.kill()
    rows = list(csv.DictReader((run / "trials.csv").read_text().splitlines()))
    assert [row["status"] for row in rows] == ["completed"] * 4
    assert len({row["trial_id"] for row in rows}) == 4


@pytest.mark.parametrize("script", sorted(CLUSTER.glob("*.sh")), ids=lambda path: path.name)
def test_cluster_scripts_are_shell(script):
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)


def test_the_job_names_the_script_that_is_there():
    text = (CLUSTER / "kubernetes.yaml").read_text()
    assert "scripts/cluster/kubernetes.sh" in text and "completionMode: Indexed" in text
