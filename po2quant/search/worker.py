"""A worker of a search: runs the trials that a chief on this or another machine hands out."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import keras
import keras_tuner

from po2quant.compat import keras_tuner_service
from po2quant.files import read_json
from po2quant.runs.roles import parse_address
from po2quant.search.authentication import TOKEN_FILE, read_token, signed_stub
from po2quant.search.oracle import OBJECTIVE
from po2quant.search.settings import SearchSettings
from po2quant.search.trial import TrialTraining
from po2quant.search.trial_log import TrialLog, TrialRow
from po2quant.search.tuner import BitWidthTuner
from po2quant.training.finetune import Experiment

FLOAT_FOLDER, WORKERS_FOLDER = "float", "workers"
SEARCH_FILE, TRIAL_CSV = "search.json", "trial.csv"

CHIEF_WAIT_SECONDS = 600
"""A worker waits that long for a chief: it may still train the float network, or start again."""
BEAT_SECONDS, SILENCE_SECONDS = 2, 60
"""A worker gives a sign of life that often; after such a silence its trial goes to another one."""
PARENT = "PO2QUANT_CHIEF_PID"
"""Environment variable by which a chief tells the workers that it started who it is."""

_messages, _ = keras_tuner_service()
_NO_ANSWER = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def search_identity(experiment: Experiment, settings: SearchSettings) -> dict[str, Any]:
    """Return what a chief and its workers must have in common."""
    return {
        "benchmark": experiment.benchmark.name,
        "model": experiment.model,
        "alpha": experiment.alpha,
        "seed": experiment.seed,
        "preset": experiment.preset,
        "calibration": experiment.calibration,
        "epochs": settings.epochs,
        "reconstruct": experiment.reconstruction and experiment.reconstruction.steps,
        "max_bits": settings.max_bits,
        "goal": str(settings.goal),
        "limits": {str(limit.cost): limit.maximum for limit in settings.limits},
        "packed": settings.packed,
        "weights": getattr(experiment.weights, "name", None),
        "data": experiment.dataset.fingerprint(),
    }


def run_worker(experiment: Experiment, folder: Path, settings: SearchSettings, address: str) -> None:
    """Run trials for the chief at an address until it has no more.

    Args:
        experiment: the chief's. Without weights, those of the float network that the chief has trained are taken.
        folder: the chief's run folder, on a file system that both share.
        settings: epochs and size limit, which must be the chief's; the widths come with each trial.
        address: ``host:port``.

    Raises:
        OSError: where no chief answers within :data:`CHIEF_WAIT_SECONDS`.
        ValueError: where the folder holds no search with a chief, or one of another experiment.
        RuntimeError: where the chief is gone.
    """
    host, port = parse_address(address)
    _wait_for_chief(address)
    if experiment.weights is None:
        experiment = dataclasses.replace(experiment, weights=folder / FLOAT_FOLDER, folded=experiment.network)
    _check_same_search(folder, search_identity(experiment, settings))
    token = read_token(folder / WORKERS_FOLDER)
    keras.utils.set_random_seed(experiment.seed)
    layers = experiment.network.layers
    training = dataclasses.replace(TrialTraining.of(experiment), callbacks=settings.callbacks)
    costed = settings.costed(layers, experiment.network, training.calibration_inputs)
    problem = settings.problem(layers, experiment.seed, costed)
    own_id = uuid.uuid4().hex[:8]
    os.environ.setdefault("KERASTUNER_TUNER_ID", own_id)
    os.environ |= {"KERASTUNER_ORACLE_IP": host, "KERASTUNER_ORACLE_PORT": str(port), "no_grpc_proxy": host}
    tuner = WorkerTuner(problem, training, keras_tuner.Oracle(OBJECTIVE), folder / WORKERS_FOLDER / own_id)
    with _connect(address) as channel:
        tuner.oracle.stub = signed_stub(channel, token, tuner.tuner_id)
        with signs_of_life(tuner, tuner.oracle.stub, address):
            _run_trials(tuner)


def _run_trials(tuner: BitWidthTuner) -> None:
    """Run trials until there is no more; the chief remembers which one is the tuner's when the connection breaks.

    A trial that the chief has given to another worker meanwhile is left to it.
    """
    while True:
        try:
            return tuner.search()
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED):
                raise


def _connect(address: str) -> grpc.Channel:
    return grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])


def _wait_for_chief(address: str) -> None:
    deadline = time.monotonic() + CHIEF_WAIT_SECONDS
    with _connect(address) as channel:
        ready = grpc.channel_ready_future(channel)
        while True:
            try:
                ready.result(min(BEAT_SECONDS, CHIEF_WAIT_SECONDS))
                return
            except grpc.FutureTimeoutError:
                if _is_orphan():
                    raise OSError(f"the chief at {address}, which started this worker, is gone") from None
                if time.monotonic() >= deadline:
                    raise OSError(
                        f"no chief has answered at {address} within {CHIEF_WAIT_SECONDS} s: "
                        "it must run there, and be through with its float network and sensitivities"
                    ) from None


def _check_same_search(folder: Path, identity: Mapping[str, Any]) -> None:
    """Raise ValueError unless the chief's search in a folder is the worker's."""
    file, token_file = (folder / WORKERS_FOLDER / name for name in (SEARCH_FILE, TOKEN_FILE))
    if not file.exists() or not token_file.exists():
        raise ValueError(f"output_dir must be the run folder of the chief, which shares it. Received: {folder}")
    of_chief = read_json(file, "what the chief searches")
    differing = [
        f"{name} {value!r} instead of {of_chief.get(name)!r}"
        for name, value in identity.items()
        if value != of_chief.get(name)
    ]
    if differing:
        raise ValueError(f"a worker must have the options and data of its chief. Received: {', '.join(differing)}")


class WorkerTuner(BitWidthTuner):
    """Runs trials for a chief, in a folder of its own; arguments as of :class:`BitWidthTuner`."""

    trial_id = ""
    """The trial that is being run."""

    def on_trial_begin(self, trial: keras_tuner.engine.trial.Trial) -> None:
        """Remember the trial."""
        self.trial_id = trial.trial_id

    def record(self, row: TrialRow, values: Mapping[str, Any]) -> None:
        """Put the row into the trial's folder, as the last of its files: the chief logs it."""
        folder = self.trial_folder(row.trial_id)
        folder.mkdir(parents=True, exist_ok=True)
        TrialLog(folder / TRIAL_CSV, ()).append(row)


@contextlib.contextmanager
def signs_of_life(tuner: WorkerTuner, stub: Any, address: str) -> Iterator[None]:
    """Tell the chief every few seconds that the tuner runs its trial; end the block if the chief is gone.

    Args:
        tuner: runs the trials.
        stub: of the chief's service, signed.
        address: of the chief, for what is said of it.

    Raises:
        RuntimeError: where the chief has stopped, has not answered for :data:`CHIEF_WAIT_SECONDS`, or has died and was
            the one that started this process.
    """
    is_done, is_lost = threading.Event(), threading.Event()

    def beat() -> None:
        answered = time.monotonic()
        while not is_done.wait(BEAT_SECONDS):
            try:
                stub.GetTrial(_messages.GetTrialRequest(trial_id=tuner.trial_id), timeout=BEAT_SECONDS)
                answered = time.monotonic()
            except grpc.RpcError as error:
                if error.code() not in _NO_ANSWER:
                    answered = time.monotonic()
                elif time.monotonic() - answered > CHIEF_WAIT_SECONDS or _is_orphan():
                    is_lost.set()
                    os.kill(os.getpid(), signal.SIGINT)
                    return

    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background processes ignore
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    except KeyboardInterrupt:
        if is_lost.is_set():
            raise RuntimeError(f"the chief at {address} is gone") from None
        raise
    except grpc.RpcError as error:
        raise RuntimeError(f"the chief at {address} does not go on: {error.details()}") from None
    finally:
        is_done.set()
        thread.join()


def _is_orphan() -> bool:
    return os.environ.get(PARENT, str(os.getppid())) != str(os.getppid())
