"""Trials in several processes, on this machine or on more, by Keras Tuner's chief and worker service.

The chief owns the oracle and every file of the run folder. A worker asks it for trials over gRPC and writes into a
folder of its own, ``workers/<id>/``. When a trial has ended there, the chief moves its folder to ``trials/`` and logs
it. So no file has two writers, and a process that dies leaves nothing that another one reads.
"""

from __future__ import annotations

import collections
import contextlib
import math
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from keras_tuner.engine.trial import Trial, TrialStatus

from po2quant.compat import keras_tuner_service
from po2quant.files import write_json
from po2quant.runs.folder import THREAD_VARIABLES
from po2quant.runs.roles import THIS_MACHINE, WORKER
from po2quant.search.authentication import TokenCheck, make_token, worker_of
from po2quant.search.oracle import end_trial, release, unfinished
from po2quant.search.run import SearchResult, run_search
from po2quant.search.settings import SearchSettings
from po2quant.search.trial_log import TrialLog
from po2quant.search.tuner import TRIALS_FOLDER, BitWidthTuner
from po2quant.search.worker import (
    PARENT,
    SEARCH_FILE,
    SILENCE_SECONDS,
    TRIAL_CSV,
    WORKERS_FOLDER,
    search_identity,
)
from po2quant.training.finetune import Experiment

FILES_SECONDS = 60
"""A shared file system may show the files of another machine that late."""
GOODBYE_SECONDS = 5
RESTARTS = 3
"""How often a dead worker, or a trial that ended without files, is started again before the next trial ends."""
REQUEST_BYTES = 2**20
"""Longest message that a chief reads; the trials of EfficientNet-B0 take 27 KiB."""

_REQUESTS_AT_ONCE = 64
_POLL_SECONDS = 0.5
_messages, _service = keras_tuner_service()


def run_distributed_search(
    experiment: Experiment,
    folder: Path,
    settings: SearchSettings,
    address: str = THIS_MACHINE,
    workers: int = 0,
    worker_command: Sequence[str | os.PathLike[str]] = (),
) -> SearchResult:
    """Run a search as its chief: the trials are run by workers, which are other processes.

    The first arguments are those of :func:`po2quant.search.run.run_search`, and so are the results, except that the
    order of trials and, after the first ones, their choice depend on which worker is faster.

    Args:
        experiment: as in ``run_search``.
        folder: run folder, which all workers see.
        settings: what the search tries and maximises.
        address: ``host:port`` to listen at. Only who can read the token in the run folder can take part in the search.
        workers: how many to run on this machine.
        worker_command: what runs one of them, to which ``--oracle host:port`` is added.

    Raises:
        RuntimeError: where the address cannot be listened at, a worker on this machine dies again and again, or the
            files of a trial do not arrive.
    """

    def run_trials(tuner: BitWidthTuner) -> None:
        tuner.on_search_begin()
        chief = ChiefService(tuner, folder / WORKERS_FOLDER)
        if not chief.is_over():
            (folder / WORKERS_FOLDER).mkdir(exist_ok=True)
            token = make_token(folder / WORKERS_FOLDER)
            write_json(folder / WORKERS_FOLDER / SEARCH_FILE, search_identity(experiment, settings))
            _serve(chief, address, token, LocalWorkers(workers, worker_command, folder / WORKERS_FOLDER))
        shutil.rmtree(folder / WORKERS_FOLDER, ignore_errors=True)

    return run_search(experiment, folder, settings, run_trials)


def _serve(chief: ChiefService, address: str, token: str, workers: LocalWorkers) -> None:
    """Hand out trials at an address, to those who know the token, until the search is over."""
    server = grpc.server(
        futures.ThreadPoolExecutor(_REQUESTS_AT_ONCE),
        interceptors=[TokenCheck(token)],
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", REQUEST_BYTES)],
    )
    _service.add_OracleServicer_to_server(chief, server)
    port, host = server.add_insecure_port(address), address.rpartition(":")[0]
    server.start()
    try:
        workers.start(f"{host}:{port}")
        while not chief.is_over():
            chief.release_lost_trials()
            workers.keep_running(chief.ended)
            time.sleep(_POLL_SECONDS)
        chief.say_goodbye()
    finally:
        workers.stop()
        chief.close()
        server.stop(grace=1).wait()


class ChiefService(_service.OracleServicer):  # type: ignore[name-defined]
    """Keras Tuner's service, for workers that may die at any moment.

    A running trial belongs to the worker that was given it last, and a request for a trial that is another's is
    refused. Requests come in threads; each is answered alone, but for signs of life.

    Args:
        tuner: has the oracle and the log.
        workers_folder: where workers leave their trials.
    """

    def __init__(self, tuner: BitWidthTuner, workers_folder: Path) -> None:
        self.oracle, self._tuner, self._workers_folder = tuner.oracle, tuner, workers_folder
        self._is_exhausted, self._ends_without_files = False, 0
        self._lock, self._is_closed = threading.Lock(), False
        self._error: Exception | None = None
        self._last_sign: dict[str, float] = {}
        for trial_id in unfinished(self.oracle):
            if attempt := self._attempt(trial_id):
                self._finish(trial_id, attempt)

    @property
    def ended(self) -> int:
        """How many trials have ended."""
        return len(self._tuner.log.rows)

    @contextlib.contextmanager
    def _alone(self, context: grpc.ServicerContext) -> Iterator[None]:
        """Answer one request; an error in it ends the search, since Keras Tuner's own lock stays taken."""
        with self._lock:
            if self._is_closed or self._error:
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the search is over")
            try:
                yield
            except Exception as error:
                self._error = error
                context.abort(grpc.StatusCode.INTERNAL, str(error))

    def CreateTrial(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Hand out a trial. Who finds none waits while others run theirs, to take over from those that die."""
        if not request.tuner_id or request.tuner_id != worker_of(context):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a worker asks for trials in its own name")
        with self._alone(context):
            trial = self.oracle.create_trial(request.tuner_id)
            if trial.status == TrialStatus.RUNNING:
                self._last_sign[trial.trial_id] = time.monotonic()
            elif unfinished(self.oracle):
                trial.status = TrialStatus.IDLE
                self.oracle.tuner_ids.add(request.tuner_id)
            else:
                self._is_exhausted = True
        if trial.status == TrialStatus.IDLE:
            time.sleep(_POLL_SECONDS)
        return _messages.CreateTrialResponse(trial=trial.to_proto())

    def GetTrial(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Return a trial; its worker's sign of life."""
        trial = self._own_trial(request.trial_id, context)
        self._last_sign[trial.trial_id] = time.monotonic()
        return _messages.GetTrialResponse(trial=trial.to_proto())

    def UpdateTrial(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Return a trial; its score comes with its files, in full precision."""
        trial = self._own_trial(request.trial_id, context)
        if not all(map(math.isfinite, request.metrics.values())):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "metrics must be finite")
        return _messages.UpdateTrialResponse(trial=trial.to_proto())

    def EndTrial(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Take the files of a trial over; without files, it runs again.

        Files count, whoever says that they are there. Of two workers that ran a trial, the second is not heard.
        """
        trial_id, deadline = request.trial.trial_id, time.monotonic() + FILES_SECONDS
        if not self._has_ended(trial_id):
            self._own_trial(trial_id, context)
        while not self._has_ended(trial_id) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        with self._alone(context):
            if self._runs(trial_id):
                if attempt := self._attempt(trial_id):
                    self._finish(trial_id, attempt)
                else:
                    self._run_again(trial_id, worker_of(context))
        return _messages.EndTrialResponse()

    def _own_trial(self, trial_id: str, context: grpc.ServicerContext) -> Trial:
        """Return the trial of the worker that sends a request; refuse a request for another one."""
        if trial_id not in self.oracle.trials:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such trial")
        trial = self.oracle.ongoing_trials.get(worker_of(context))
        if trial is None or trial.trial_id != trial_id:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, f"trial {trial_id} is not one that this worker runs")
        return trial

    def _has_ended(self, trial_id: str) -> bool:
        is_known = trial_id in self.oracle.trials
        return is_known and (not self._runs(trial_id) or self._attempt(trial_id) is not None)

    def _runs(self, trial_id: str) -> bool:
        return trial_id in self.oracle.trials and self.oracle.trials[trial_id].status == TrialStatus.RUNNING

    def _attempt(self, trial_id: str) -> Path | None:
        """Return a folder in which a trial has ended."""
        own, others = self._tuner.trial_folder(trial_id), self._workers_folder.glob(f"*/{TRIALS_FOLDER}/{trial_id}")
        return next((folder for folder in (own, *others) if (folder / TRIAL_CSV).exists()), None)

    def _finish(self, trial_id: str, attempt: Path) -> None:
        """Move the folder of a trial that has ended to its place, log it and tell the oracle, in this order."""
        folder = self._tuner.trial_folder(trial_id)
        rows = TrialLog(attempt / TRIAL_CSV, [trial_id]).rows
        if len(rows) != 1:
            raise ValueError(
                f"{attempt / TRIAL_CSV} must have one row, of trial {trial_id}. Received: {len(rows)} of it"
            )
        (row,) = rows
        if attempt != folder:
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(exist_ok=True)
            attempt.rename(folder)
        self._tuner.record(row, self.oracle.trials[trial_id].hyperparameters.values)
        end_trial(self.oracle, row)
        (folder / TRIAL_CSV).unlink()
        self._ends_without_files = 0

    def _run_again(self, trial_id: str, worker_id: str) -> None:
        """Queue the trial of a worker that said that it ended, and left no files."""
        if self.oracle.ongoing_trials.get(worker_id) is not self.oracle.trials[trial_id]:
            return
        self._ends_without_files += 1
        if self._ends_without_files > RESTARTS:
            raise RuntimeError(
                f"trials ended {RESTARTS + 1} times, at last trial {trial_id}, but their files did not come to "
                f"{self._workers_folder}: chief and workers must have the run folder on a file system that they share"
            )
        release(self.oracle, worker_id)

    def is_over(self) -> bool:
        """Return whether every trial has ended; raise the error that ended the search."""
        with self._lock:
            if self._error:
                raise self._error
            max_trials = self.oracle.max_trials  # None: the oracle says when it has no more
            is_all = self._is_exhausted or bool(max_trials and len(self.oracle.trials) >= max_trials)
            return is_all and not unfinished(self.oracle)

    def release_lost_trials(self) -> None:
        """Take back the trials of workers that give no sign of life."""
        with self._lock:
            for tuner_id, trial in list(self.oracle.ongoing_trials.items()):
                if time.monotonic() - self._last_sign[trial.trial_id] > SILENCE_SECONDS:
                    release(self.oracle, tuner_id)

    def say_goodbye(self) -> None:
        """Wait for the workers to ask for a trial once more, and to hear that there is none."""
        deadline = time.monotonic() + GOODBYE_SECONDS
        while self.oracle.tuner_ids and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """Let a request that is being answered end, and answer no other."""
        with self._lock:
            self._is_closed = True


class LocalWorkers:
    """Workers on this machine: they share its cores, and start again when they die, to go on with their trial.

    Args:
        count: how many.
        command: what runs one, without ``--oracle host:port``.
        folder: gets what each writes to its standard output and error.
    """

    def __init__(self, count: int, command: Sequence[str | os.PathLike[str]], folder: Path) -> None:
        self._ids = [f"{WORKER}{index}" for index in range(count)]
        self._command, self._folder = [str(word) for word in command], folder
        self._processes: dict[str, subprocess.Popen] = {}
        self._deaths: dict[str, int] = collections.Counter()
        self._ended = 0
        threads = str(max(1, _cores() // max(1, count)))
        self._environment = {name: os.environ.get(name, threads) for name in THREAD_VARIABLES}

    def start(self, address: str) -> None:
        """Start all of them, for the chief at an address."""
        self._command += ["--oracle", address]
        for worker_id in self._ids:
            self._start(worker_id)

    def _start(self, worker_id: str) -> None:
        environment = {**os.environ, **self._environment, "KERASTUNER_TUNER_ID": worker_id, PARENT: str(os.getpid())}
        with open(self._log(worker_id), "ab") as log:
            # A process group of its own, so that the terminal's Ctrl-C reaches the chief alone.
            self._processes[worker_id] = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, process_group=0
            )

    def _log(self, worker_id: str) -> Path:
        return self._folder / f"{worker_id}.log"

    def keep_running(self, ended: int) -> None:
        """Start those again that have died.

        Args:
            ended: how many trials have ended.

        Raises:
            RuntimeError: where one has died more than :data:`RESTARTS` times since the last trial ended.
        """
        if ended > self._ended:
            self._ended = ended
            self._deaths.clear()
        for worker_id, process in self._processes.items():
            if process.poll() in (None, 0):
                continue
            self._deaths[worker_id] += 1
            if self._deaths[worker_id] > RESTARTS:
                lines = self._log(worker_id).read_text(encoding="utf-8", errors="replace").split("\n")
                last = next((line.strip() for line in reversed(lines) if line.strip()), "it wrote nothing")
                raise RuntimeError(
                    f"{worker_id} died {RESTARTS + 1} times and no trial ended meanwhile, at last with exit code "
                    f"{process.returncode}: {last} (all in {self._log(worker_id)})"
                )
            self._start(worker_id)

    def stop(self) -> None:
        """End them all; whatever they were doing can be done again."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
