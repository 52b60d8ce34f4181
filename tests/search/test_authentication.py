"""Strangers at the port of a search: a real server, with the search going on and ending as it would without them."""

from __future__ import annotations

import contextlib
import json
import stat
import threading
import time
from types import SimpleNamespace

import grpc
import pytest
from keras_tuner.engine.trial import TrialStatus
from search_chief import leave, tuner_at

from po2quant.compat import keras_tuner_service
from po2quant.runs.roles import THIS_MACHINE
from po2quant.search import distributed
from po2quant.search.authentication import TokenCheck, make_token, read_token, signed_stub
from po2quant.search.distributed import REQUEST_BYTES, ChiefService

TIMEOUT_S = 30
messages, service = keras_tuner_service()
UNAUTHENTICATED, DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
INVALID, UNKNOWN_TRIAL = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


class NoProcesses:
    """Stands for the workers that a chief starts; says where it listens."""

    def start(self, address):
        self.address = address

    def keep_running(self, ended):
        pass

    def stop(self):
        pass


class Search:
    """A chief that serves in a thread, and one honest worker of it, which has trial 0."""

    def __init__(self, folder):
        self.folder, self.tuner = folder, tuner_at(folder, trials=3)
        self.chief, self._processes = ChiefService(self.tuner, folder / "workers"), NoProcesses()
        (folder / "workers").mkdir()
        self.token = make_token(folder / "workers")
        arguments = (self.chief, THIS_MACHINE, self.token, self._processes)
        self.thread = threading.Thread(target=distributed._serve, args=arguments, daemon=True)
        self.thread.start()
        while not hasattr(self._processes, "address"):
            time.sleep(0.01)
        self.channel = grpc.insecure_channel(self._processes.address)
        self.worker = self.stub("honest")
        self.trial = self.worker.CreateTrial(messages.CreateTrialRequest(tuner_id="honest")).trial

    def stub(self, worker_id="rogue", token=None):
        return signed_stub(self.channel, self.token if token is None else token, worker_id)

    def state(self):
        """Return all that a request could change."""
        oracle, chief = self.tuner.oracle, self.chief
        files = {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}
        state = (
            json.dumps(oracle.get_state()),
            sorted(oracle.trials),
            sorted(oracle.tuner_ids),
            list(oracle._retry_queue),
        )
        return (
            *state,
            list(self.tuner.log.rows),
            dict(chief._last_sign),
            chief._ends_without_files,
            chief._error,
            files,
        )

    def finish(self):
        """Run the trials to the end, as their worker."""
        while self.trial.trial_id in self.tuner.oracle.trials and self.trial.status == TrialStatus.to_proto(
            TrialStatus.RUNNING
        ):
            leave(self.folder, self.tuner.oracle.trials[self.trial.trial_id], "honest")
            self.worker.EndTrial(messages.EndTrialRequest(trial=self.trial))
            self.trial = self.worker.CreateTrial(messages.CreateTrialRequest(tuner_id="honest")).trial
        self.thread.join(TIMEOUT_S)
        assert not self.thread.is_alive()
        assert [row.trial_id for row in self.tuner.log.rows] == ["0", "1", "2"]
        assert self.tuner.best_config("best").provenance["trial"] == "0"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A search that all rogues of this file meet, and that must end as ever."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "_POLL_SECONDS", 0.02)
        search = Search(tmp_path_factory.mktemp("search"))
        yield search
        with contextlib.closing(search.channel):
            search.finish()


def requests_to(stub, trial_id="0", worker_id="rogue"):
    """Return every request of the service, by its name."""
    trial = messages.EndTrialRequest().trial
    trial.trial_id = trial_id
    return {
        "CreateTrial": lambda: stub.CreateTrial(messages.CreateTrialRequest(tuner_id=worker_id)),
        "EndTrial": lambda: stub.EndTrial(messages.EndTrialRequest(trial=trial)),
        "GetTrial": lambda: stub.GetTrial(messages.GetTrialRequest(trial_id=trial_id)),
        "UpdateTrial": lambda: stub.UpdateTrial(messages.UpdateTrialRequest(trial_id=trial_id, metrics={"score": 9.0})),
        "GetSpace": lambda: stub.GetSpace(messages.GetSpaceRequest()),
        "UpdateSpace": lambda: stub.UpdateSpace(messages.UpdateSpaceRequest()),
        "GetBestTrials": lambda: stub.GetBestTrials(messages.GetBestTrialsRequest(num_trials=3)),
    }


NAMES = list(requests_to(None))


def assert_refused(search, request, code):
    before = search.state()
    with pytest.raises(grpc.RpcError) as error:
        request()
    assert (error.value.code(), search.state()) == (code, before), error.value.details()


def wrong_tokens(token):
    return {"empty": "", "short": token[:-1], "long": token + "A", "other": token[::-1], "spaces": f" {token}"}


@pytest.mark.parametrize("name", NAMES)
def test_a_request_without_the_token_is_refused_and_changes_nothing(running, name):
    for stub in (service.OracleStub(running.channel), *map(running.stub, ["honest"] * 2, ["", "0" * 43])):
        assert_refused(running, requests_to(stub, worker_id="honest")[name], UNAUTHENTICATED)


@pytest.mark.parametrize("kind", wrong_tokens("x"))
def test_no_token_but_the_right_one_opens(running, kind):
    stub = running.stub("honest", wrong_tokens(running.token)[kind])
    assert_refused(running, requests_to(stub)["GetTrial"], UNAUTHENTICATED)


def test_a_token_with_other_letters_than_ascii_is_refused():
    called = []
    details = SimpleNamespace(invocation_metadata=(("po2quant-token", "é"),))
    assert TokenCheck("a").intercept_service(called.append, details) is not None
    assert not called


def test_strangers_who_send_no_message_keep_no_worker_waiting(running):
    opened, done = [], threading.Event()

    def silence():
        done.wait()
        yield b""

    try:
        for _ in range(2 * distributed._REQUESTS_AT_ONCE):
            opened.append(running.channel.stream_unary("/keras_tuner.Oracle/EndTrial").future(silence()))
        running.worker.GetTrial(messages.GetTrialRequest(trial_id="0"), timeout=TIMEOUT_S)
        assert {call.code() for call in opened} == {UNAUTHENTICATED}
    finally:
        done.set()


@pytest.mark.parametrize("name", ["EndTrial", "GetTrial", "UpdateTrial"])
def test_a_trial_belongs_to_the_worker_that_it_was_given_to(running, name):
    assert_refused(running, requests_to(running.stub("rogue"))[name], DENIED)
    assert_refused(running, requests_to(running.stub("rogue"), "../../etc")[name], UNKNOWN_TRIAL)
    assert_refused(running, requests_to(running.worker, "2" * 2000)[name], UNKNOWN_TRIAL)


@pytest.mark.parametrize("name", ["GetSpace", "UpdateSpace", "GetBestTrials"])
def test_requests_that_no_worker_sends_are_not_answered(running, name):
    before = running.state()
    with pytest.raises(grpc.RpcError, match="not implemented"):
        requests_to(running.worker)[name]()
    assert running.state() == before


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_no_number_is_refused(running, value):
    request = messages.UpdateTrialRequest(trial_id="0", metrics={"score": value})
    assert_refused(running, lambda: running.worker.UpdateTrial(request), INVALID)


@pytest.mark.parametrize("name", ["honest", "", "../x", "x" * 1000])
def test_a_worker_asks_for_trials_in_its_own_name_only(running, name):
    request = messages.CreateTrialRequest(tuner_id=name)
    assert_refused(running, lambda: running.stub("rogue").CreateTrial(request), INVALID)


@pytest.mark.parametrize("method", NAMES)
def test_bytes_that_are_no_message_are_refused(running, method):
    metadata = running.worker.GetTrial.keywords["metadata"]
    send = running.channel.unary_unary(f"/keras_tuner.Oracle/{method}")
    for garbage in (b"\xff" * 10, b"\x0a\xff", b"\x0a\x7f" + b"0" * 3):
        assert_refused(running, lambda garbage=garbage: send(garbage, metadata=metadata), grpc.StatusCode.INTERNAL)


def test_a_message_of_another_size_than_a_trial_has_is_refused(running):
    request = messages.GetTrialRequest(trial_id="0" * REQUEST_BYTES)
    assert_refused(running, lambda: running.worker.GetTrial(request), grpc.StatusCode.RESOURCE_EXHAUSTED)


def test_an_end_without_files_runs_the_trial_again(running, monkeypatch):
    monkeypatch.setattr(distributed, "FILES_SECONDS", 0.1)
    requests_to(running.worker)["EndTrial"]()
    assert running.tuner.oracle._retry_queue == ["0"]
    assert running.tuner.log.rows == []
    again = running.worker.CreateTrial(messages.CreateTrialRequest(tuner_id="honest")).trial
    assert again == running.trial


def test_the_trials_of_another_worker_give_way_as_soon_as_it_is_silent(running, monkeypatch):
    running.stub("rogue").CreateTrial(messages.CreateTrialRequest(tuner_id="rogue"))
    assert running.tuner.oracle.ongoing_trials["rogue"].trial_id == "1"
    requests_to(running.worker)["GetTrial"]()
    with running.chief._lock:
        running.chief._last_sign["1"] -= distributed.SILENCE_SECONDS + 1
    deadline = time.monotonic() + TIMEOUT_S
    while running.tuner.oracle._retry_queue != ["1"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert list(running.tuner.oracle.ongoing_trials) == ["honest"]


def test_a_token_is_for_the_user_alone_and_stays_when_a_chief_starts_again(tmp_path):
    tokens = set()
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        (folder / "partial-token").write_text("half")
        (folder / "partial-token").chmod(0o666)
        token = make_token(folder)
        assert token == make_token(folder) == read_token(folder)
        tokens.add(token)
        assert stat.S_IMODE((folder / "token").stat().st_mode) == 0o600
        assert [path.name for path in folder.iterdir()] == ["token"]
    assert len(tokens) == 2


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 44, b"x" * 42 + b"\n", "é".encode() * 30, b"\0" * 43])
def test_a_file_that_is_no_token_is_refused_by_name_and_not_shown(tmp_path, content):
    (tmp_path / "token").write_bytes(content)
    for read in (read_token, make_token):
        with pytest.raises(ValueError, match=r"token must be the token of a search\. It is not; remove it$"):
            read(tmp_path)


@pytest.mark.parametrize("worker_id", ["", "é", "a b", "x" * 65, "a\n"])
def test_a_worker_has_a_name_that_a_request_can_carry(worker_id):
    with pytest.raises(ValueError, match="the id of a worker must be 1 to 64 letters"):
        signed_stub(grpc.insecure_channel("localhost:1"), "", worker_id)
