"""Chief and workers, in real processes: nothing is lost, whoever is killed whenever."""

from __future__ import annotations

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent import futures
from types import SimpleNamespace

import grpc
import keras_tuner
import pytest
from keras_tuner.engine.trial import TrialStatus
from search_chief import leave, tuner_at
from search_process import EPOCHS, KILL_FILE, command, experiment, search_settings

from po2quant.cli.search import check_roles
from po2quant.compat import keras_tuner_service
from po2quant.search import distributed, worker
from po2quant.search.authentication import make_token, read_token, signed_stub
from po2quant.search.distributed import ChiefService, LocalWorkers, run_distributed_search
from po2quant.search.oracle import SeededOracle, release
from po2quant.search.run import run_search
from po2quant.search.settings import SearchSettings
from po2quant.search.trial_log import TrialLog
from po2quant.search.tuner import BitWidthTuner
from po2quant.search.worker import WorkerTuner, run_worker, signs_of_life
from po2quant.training.fit import compile_model, validation_logs
from po2quant.training.pipeline import Pipeline
from po2quant.training.prepare import prepare_network

TIMEOUT_S = 300
messages, service = keras_tuner_service()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "float"
    experiment(None).with_float_weights(folder)
    return folder


def search(weights, folder, trials, **arguments):
    return run_distributed_search(experiment(weights), folder, search_settings(trials), **arguments)


def rows_of(folder):
    with open(folder / "trials.csv", newline="") as file:
        return list(csv.DictReader(file))


def free_address():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="module")
def finished(weights, tmp_path_factory):
    """Run a search with two workers, both killed in their first trial: one starts again, the other does not."""
    folder = tmp_path_factory.mktemp("run") / "search"
    local, remote = (tmp_path_factory.mktemp(name) for name in ("local", "remote"))
    for cwd in (local, remote):
        (cwd / KILL_FILE).touch()
    address = free_address()
    process = subprocess.Popen(command("worker", weights, folder, "--oracle", address), cwd=remote)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(local)
        patch.setattr(distributed, "SILENCE_SECONDS", 8)
        of_worker = command("worker", weights, folder)
        result = search(weights, folder, 5, address=address, workers=1, worker_command=of_worker)
    assert not (local / KILL_FILE).exists()
    assert process.wait(TIMEOUT_S) == -signal.SIGKILL
    return folder, result


@pytest.mark.slow
def test_every_trial_ends_though_both_workers_were_killed_in_one(finished):
    folder, result = finished
    assert not result.interrupted
    assert sorted(row["trial_id"] for row in rows_of(folder)) == list("01234")
    assert {row["status"] for row in rows_of(folder)} == {"completed"}
    assert [row.trial_id for row in result.log.rows] == [row["trial_id"] for row in rows_of(folder)]


@pytest.mark.slow
def test_trials_of_workers_equal_those_of_one_process(finished, weights, tmp_path):
    folder, result = finished
    alone = run_search(experiment(weights), tmp_path, search_settings(3))
    rows = {row.trial_id: row for row in result.log.rows}
    for row in alone.log.rows:
        assert (rows[row.trial_id].score, rows[row.trial_id].metric) == (row.score, row.metric)
        for name in ("config.json", "epochs.csv"):
            path = f"trials/{row.trial_id}/{name}"
            assert (folder / path).read_bytes() == (tmp_path / path).read_bytes()

    def names(root):
        own = [path.relative_to(root) for path in root.rglob("*") if "tfevents" not in path.name]
        return {str(path) for path in own if not {"3", "4", "trial_3", "trial_4"} & set(path.parts)}

    kept = {name for name in names(folder) | names(tmp_path) if name.endswith("best.weights.h5")}
    assert names(folder) - kept == names(tmp_path) - kept
    assert len(list((folder / "tensorboard").glob("*/events.*"))) == 5


def test_the_best_configuration_and_its_weights_are_those_of_the_best_row(weights, tmp_path):
    folder = tmp_path / "search"
    result = search(weights, folder, 4, workers=1, worker_command=command("worker", weights, folder))
    best = result.best_config("tiny")
    row = max(rows_of(folder), key=lambda row: float(row["score"]))
    assert best.provenance["trial"] == row["trial_id"]
    assert len(list((folder / "trials").glob("*/best.weights.h5"))) == 3
    of_tiny = experiment(weights)
    model = prepare_network(
        of_tiny.network, best.with_alpha("auto_po2"), folder / "best.weights.h5", of_tiny.dataset
    ).model
    compile_model(model, of_tiny.recipe)
    logs = validation_logs(model, Pipeline(of_tiny.dataset.validation), of_tiny.recipe)
    assert logs["accuracy"] == pytest.approx(float(row["metric"]), abs=1e-6)


@pytest.mark.slow
def test_a_search_goes_on_after_kill_9_of_all_its_processes(weights, tmp_path):
    folder = tmp_path / "search"
    chief = subprocess.Popen(command("chief", weights, folder, 9, 1), cwd=tmp_path)
    deadline = time.monotonic() + TIMEOUT_S
    while not (folder / "trials.csv").exists() or len(rows_of(folder)) < 2:
        assert chief.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    for path in tmp_path.glob("pid-*"):
        os.kill(int(path.name.removeprefix("pid-")), signal.SIGKILL)
    chief.wait()
    token = read_token(folder / "workers").encode()
    assert [path.name for path in folder.rglob("*") if path.is_file() and token in path.read_bytes()] == ["token"]
    before, trials = (folder / "trials.csv").read_bytes(), len(rows_of(folder)) + 2
    result = search(weights, folder, trials, workers=1, worker_command=command("worker", weights, folder))
    assert (folder / "trials.csv").read_bytes().startswith(before)
    assert [row.trial_id for row in result.log.rows] == [str(index) for index in range(trials)]
    assert not (folder / "workers").exists()


class Context:
    """Stands for the context of a worker's request."""

    def __init__(self, worker_id):
        self._worker_id = worker_id

    def invocation_metadata(self):
        return (("po2quant-worker", self._worker_id),)

    def abort(self, code, details):
        raise RuntimeError(f"{code.name}: {details}")


class Client:
    """Asks a chief in this process as a worker does over the network."""

    def __init__(self, folder, trials=3, **arguments):
        self.tuner = tuner_at(folder, trials, **arguments)
        self.chief = ChiefService(self.tuner, folder / "workers")

    def create(self, tuner_id="worker0"):
        created = self.chief.CreateTrial(messages.CreateTrialRequest(tuner_id=tuner_id), Context(tuner_id)).trial
        return self.tuner.oracle.trials.get(created.trial_id), TrialStatus.from_proto(created.status)

    def end(self, trial, tuner_id="worker0"):
        self.chief.EndTrial(messages.EndTrialRequest(trial=trial.to_proto()), Context(tuner_id))

    def beat(self, trial_id, tuner_id="worker0"):
        return self.chief.GetTrial(messages.GetTrialRequest(trial_id=trial_id), Context(tuner_id))


class Killed(BaseException):
    """Stands for kill -9: no handler of errors catches it."""


STEPS = {
    "rmtree": distributed.shutil,
    "rename": distributed.Path,
    "record": BitWidthTuner,
    "append": TrialLog,
    "keep_best_weights": BitWidthTuner,
    "end_trial": distributed,
    "_save_trial": SeededOracle,
    "save": SeededOracle,
}
"""What a chief does once a trial has ended, in this order."""


@pytest.mark.parametrize("step", STEPS)
def test_a_chief_killed_before_any_step_loses_no_trial_and_repeats_none(step, tmp_path, monkeypatch):
    client = Client(tmp_path)
    trial, _ = client.create()
    row = leave(tmp_path, trial)
    with monkeypatch.context() as patch:

        def kill(*arguments, **options):
            raise Killed

        patch.setattr(STEPS[step], step, kill)
        with pytest.raises(Killed):
            client.end(trial)
    again = Client(tmp_path)
    assert again.tuner.log.rows == TrialLog(tmp_path / "trials.csv", ["0"]).rows == [row]
    assert again.tuner.oracle.trials["0"].score == row.score
    assert again.tuner.best_config("best").provenance["trial"] == "0"
    assert (tmp_path / "best.weights.h5").read_text() == "worker0"
    assert again.create()[0].trial_id == "1"


def test_a_chief_that_dies_while_trials_run_hands_them_out_again(tmp_path):
    client = Client(tmp_path)
    values = [client.create(f"worker{index}")[0].hyperparameters.values for index in range(2)]
    again = Client(tmp_path)
    trials = [again.create(f"worker{index}")[0] for index in range(3)]
    assert [trial.trial_id for trial in trials] == ["0", "1", "2"]
    assert [trial.hyperparameters.values for trial in trials[:2]] == values


def test_a_worker_without_work_waits_and_takes_over_the_trial_of_a_silent_one(tmp_path, monkeypatch):
    client = Client(tmp_path, trials=1)
    trial, _ = client.create("silent")
    client.chief.release_lost_trials()
    assert client.create("idle")[1] == TrialStatus.IDLE
    client.beat(trial.trial_id, "silent")
    monkeypatch.setattr(distributed, "SILENCE_SECONDS", 0)
    client.chief.release_lost_trials()
    assert client.create("idle") == (trial, TrialStatus.RUNNING)
    assert not client.chief.is_over()
    leave(tmp_path, trial, "idle")
    client.end(trial, "idle")
    assert client.chief.is_over()
    assert client.create("idle")[1] == TrialStatus.STOPPED


def test_of_two_workers_with_the_same_trial_the_first_is_heard(tmp_path):
    client = Client(tmp_path)
    trial, _ = client.create("slow")
    release(client.tuner.oracle, "slow")
    assert client.create("fast")[0] is trial
    row = leave(tmp_path, trial, "slow", score=0.5)
    client.end(trial, "slow")
    leave(tmp_path, trial, "fast", score=0.7)
    client.end(trial, "fast")
    assert client.tuner.log.rows == [row]
    assert (trial.score, client.tuner.oracle.ongoing_trials) == (0.5, {})
    assert client.create("fast")[0].trial_id == "1"


def test_a_chief_of_an_oracle_with_its_own_number_of_trials_ends_when_it_has_no_more(tmp_path):
    client = Client(tmp_path, strategy="hyperband")
    while (created := client.create())[1] == TrialStatus.RUNNING:
        assert not client.chief.is_over()
        leave(tmp_path, created[0])
        client.end(created[0])
    assert client.chief.is_over()
    assert [row.trial_id for row in client.tuner.log.rows] == ["0000", "0001"]


def test_a_trial_that_fails_at_once_is_recorded_with_its_error(tmp_path):
    client = Client(tmp_path)
    trial, _ = client.create()
    with pytest.raises(keras_tuner.errors.FailedTrialError, match="no attribute 'reset'"):
        tuner_at(tmp_path / "workers" / "worker0", kind=WorkerTuner).run_trial(trial)
    client.end(trial)
    (row,) = client.tuner.log.rows
    assert (row.status, row.error[:14], trial.status) == ("failed", "AttributeError", TrialStatus.FAILED)
    assert client.create()[0].trial_id == "1"


def test_a_trial_whose_files_do_not_arrive_runs_again_until_that_is_the_rule(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "FILES_SECONDS", 0)
    client = Client(tmp_path)
    trial, _ = client.create()
    for _ in range(distributed.RESTARTS):
        client.end(trial)
        assert client.create("another") == (trial, TrialStatus.RUNNING)
        release(client.tuner.oracle, "another")
        assert client.create() == (trial, TrialStatus.RUNNING)
    assert not client.chief.is_over()
    with pytest.raises(RuntimeError, match="INTERNAL"):
        client.end(trial)
    with pytest.raises(RuntimeError, match=r"4 times, at last trial 0, but their files did not come to .*workers: "):
        client.chief.is_over()
    with pytest.raises(RuntimeError, match="FAILED_PRECONDITION: the search is over"):
        client.create()


def test_only_ends_without_files_that_follow_each_other_end_a_search(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "FILES_SECONDS", 0)
    client = Client(tmp_path)
    for _ in range(3):
        for _ in range(distributed.RESTARTS):
            client.end(client.create()[0])
        trial, _ = client.create()
        leave(tmp_path, trial)
        client.end(trial)
    assert client.chief.is_over()
    assert [row.trial_id for row in client.tuner.log.rows] == ["0", "1", "2"]


def test_files_that_came_before_the_chief_started_again_count_for_whoever_says_so(tmp_path):
    client = Client(tmp_path)
    trial, _ = client.create("worker0")
    again = Client(tmp_path)
    row = leave(tmp_path, trial)
    assert again.create("worker1")[0].trial_id == "0"
    again.end(trial, "worker0")
    assert again.tuner.log.rows == [row]


def test_a_trial_that_the_chief_does_not_know_is_refused(tmp_path):
    client = Client(tmp_path)
    trial, _ = client.create()
    trial.trial_id = "../../etc"
    for request in (lambda: client.beat(trial.trial_id), lambda: client.end(trial)):
        with pytest.raises(RuntimeError, match="NOT_FOUND"):
            request()
    assert client.tuner.log.rows == []


@pytest.mark.parametrize("text", ["1,completed,0.5,0.5,1,1,1,\n", "0,completed,nan,0.5,1,1,1,\n", "", "\0"])
def test_files_of_a_worker_that_are_no_trial_end_the_search_with_a_sentence(text, tmp_path):
    client = Client(tmp_path)
    trial, _ = client.create()
    leave(tmp_path, trial)
    file = tmp_path / "workers" / "worker0" / "trials" / "0" / "trial.csv"
    file.write_text(file.read_text().split("\n")[0] + "\n" + text)
    with pytest.raises(RuntimeError, match=r"INTERNAL: .*workers.*trial\.csv must "):
        client.end(trial)
    assert client.tuner.log.rows == []


def test_a_worker_that_dies_at_once_ends_the_search_with_its_last_words(weights, tmp_path):
    program = "import sys; sys.exit('error: no space left')"
    with pytest.raises(RuntimeError, match=r"worker0 died 4 times .* with exit code 1: error: no space left"):
        search(weights, tmp_path, 2, workers=1, worker_command=[sys.executable, "-c", program])


def test_ctrl_c_ends_the_workers_and_keeps_what_there_is(weights, tmp_path, monkeypatch):
    processes = []

    def interrupt(workers, ended):
        processes.extend(workers._processes.values())
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalWorkers, "keep_running", interrupt)
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    assert search(weights, tmp_path, 2, workers=2, worker_command=sleep).interrupted
    assert [process.returncode for process in processes] == [-signal.SIGKILL] * 2
    token = read_token(tmp_path / "workers")
    assert not any(token in word for process in processes for word in (*process.args, *os.environ.values()))


def test_workers_share_the_cores(monkeypatch, tmp_path):
    monkeypatch.setattr(distributed, "_cores", lambda: 8)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    program = "import os; print(*(os.environ[name] for name in ('TF_NUM_INTRAOP_THREADS', 'OMP_NUM_THREADS')))"
    workers = LocalWorkers(3, [sys.executable, "-c", program], tmp_path)
    workers.start("127.0.0.1:1")
    for process in workers._processes.values():
        process.wait()
    assert [(tmp_path / f"worker{index}.log").read_text() for index in range(3)] == ["2 1\n"] * 3


def test_a_worker_without_a_chief_says_so(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "CHIEF_WAIT_SECONDS", 0.2)
    with pytest.raises(OSError, match=r"no chief has answered at 127\.0\.0\.1:\d+ within 0\.2 s"):
        run_worker(experiment(weights), tmp_path, search_settings(), free_address())


def test_a_worker_whose_chief_dies_before_it_answers_ends(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "BEAT_SECONDS", 0.1)
    monkeypatch.setenv(worker.PARENT, "0")
    start = time.monotonic()
    with pytest.raises(OSError, match=r"the chief at 127\.0\.0\.1:\d+, which started this worker, is gone"):
        run_worker(experiment(weights), tmp_path, search_settings(), free_address())
    assert time.monotonic() - start < TIMEOUT_S / 2


@pytest.mark.parametrize(("wait_seconds", "parent"), [(0.2, None), (TIMEOUT_S, "0")], ids=["silent", "orphan"])
def test_a_worker_whose_chief_is_gone_ends(wait_seconds, parent, monkeypatch):
    monkeypatch.setattr(worker, "CHIEF_WAIT_SECONDS", wait_seconds)
    monkeypatch.setattr(worker, "BEAT_SECONDS", 0.1)
    if parent:
        monkeypatch.setenv(worker.PARENT, parent)
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=r"the chief at 127\.0\.0\.1:\d+ is gone"):
        address = free_address()
        with grpc.insecure_channel(address) as channel:
            with signs_of_life(SimpleNamespace(trial_id="0"), signed_stub(channel, "", "worker0"), address):
                time.sleep(TIMEOUT_S)
    assert time.monotonic() - start < TIMEOUT_S / 2


def test_a_worker_whose_chief_has_stopped_says_so(tmp_path):
    client = Client(tmp_path)
    client.chief.close()
    server = grpc.server(futures.ThreadPoolExecutor(1))
    service.add_OracleServicer_to_server(client.chief, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    request = messages.CreateTrialRequest(tuner_id="late")
    with grpc.insecure_channel(address) as channel:
        stub = signed_stub(channel, "", "late")
        with pytest.raises(RuntimeError, match="does not go on: the search is over"):
            with signs_of_life(SimpleNamespace(trial_id=""), stub, address):
                stub.CreateTrial(request)
    server.stop(None).wait()


def test_a_worker_of_another_search_is_refused(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "_wait_for_chief", lambda address: None)
    with pytest.raises(ValueError, match="output_dir must be the run folder of the chief"):
        run_worker(experiment(weights), tmp_path, search_settings(), "host:1")
    (tmp_path / "workers").mkdir()
    identity = worker.search_identity(experiment(weights), search_settings())
    distributed.write_json(tmp_path / "workers" / "search.json", identity)
    with pytest.raises(ValueError, match="output_dir must be the run folder of the chief"):
        run_worker(experiment(weights), tmp_path, search_settings(), "host:1")
    make_token(tmp_path / "workers")
    with pytest.raises(ValueError, match=r"options and data of its chief\. Received: seed 1 instead of 0, epochs 3 in"):
        run_worker(experiment(weights, seed=1), tmp_path, SearchSettings(1, EPOCHS + 1), "host:1")


WRONG_OPTIONS = {
    "none": ((0, None, None), r"--workers must be at least 1\. Received: 0"),
    "both": ((2, "chief", "localhost:7777"), "--workers .* must stand without --role and --oracle"),
    "role": ((None, "boss", "localhost:7777"), r"--role must be one of chief, worker\. Received: 'boss'"),
    "role alone": ((None, "worker", None), "must stand together"),
    "oracle alone": ((None, None, "localhost:7777"), "must stand together"),
    "no port": ((None, "worker", "localhost"), r"oracle must be host:port, .* Received: 'localhost'"),
    "port": ((None, "worker", "localhost:99999"), "Received: 'localhost:99999'"),
    "folder": ((None, "worker", "localhost:7777"), "--role worker needs --output-dir"),
    "elsewhere": ((None, "chief", "192.0.2.1:7777"), r"a free port of this machine\. Received: 192\.0\.2\.1:7777"),
}


@pytest.mark.parametrize("name", WRONG_OPTIONS)
def test_options_that_do_not_go_together_are_one_sentence(name):
    options, message = WRONG_OPTIONS[name]
    with pytest.raises(ValueError, match=message) as error:
        check_roles(*options, output_dir=None)
    assert "\n" not in str(error.value)


def test_a_chief_cannot_listen_where_something_does():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ValueError, match="must be a free port of this machine"):
            check_roles(None, "chief", address, None)
    check_roles(None, "chief", address, None)
    check_roles(2, None, None, None)
