"""What a run was asked for: checked when it is made, written into its folder, read by whoever goes on from there."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from po2quant.benchmark import PUBLISHED, is_module_attribute
from po2quant.bit_config import ALPHAS, AUTO, AUTO_PO2, FLOAT, MPQ
from po2quant.cost import BITS_PER_KIB
from po2quant.files import one_line, read_json, write_json
from po2quant.ranges import MSE
from po2quant.runs import fields
from po2quant.runs.costs import BYTES_PER_KIB, RAM, CostName, MaxCost, max_flash, max_milliseconds
from po2quant.runs.fields import asked, optional, several
from po2quant.runs.names import BEST_CONFIG, BEST_WEIGHTS, REQUEST_FILE
from po2quant.runs.roles import WORKER
from po2quant.runs.task import TaskRequest
from po2quant.targets import GENERIC, target_of
from po2quant.uniform import IO_BITS

SCHEMA, VERSION = "po2quant.run", 1
CONTENT = "what a run was asked for"
INFORMED: Final = "informed"
BAYESIAN: Final = "bayesian"
RANDOM: Final = "random"
GRADIENT: Final = "gradient"
HESSIAN: Final = "hessian"
HYPERBAND: Final = "hyperband"
STRATEGY_NAMES = (INFORMED, BAYESIAN, RANDOM, GRADIENT, HESSIAN, HYPERBAND)
"""Names of the ways to choose a search's trials; :data:`po2quant.search.STRATEGIES` has what they do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRequest(TaskRequest):
    """What every run is asked for, beside its task.

    Args:
        weights: file or run folder to start from; None: those of a network in a file, or the float network of a
            benchmark is trained first.
        alpha: kind of scales.
        seed: of data splits, calibration, training and search.
        preset: name of the recipe.
        calibration: how activation ranges follow from data, see :func:`~po2quant.ranges.calibration_rules`.
        target: what shall compute the network, a row of :data:`~po2quant.targets.TARGETS`.

    Raises:
        ValueError: for a value of another type or out of range.
    """

    kind: ClassVar[str]
    """The command that makes such a run."""

    weights: Path | None = asked(None, optional(fields.path))
    alpha: str = asked(AUTO_PO2, fields.alpha, shown=True)
    seed: int = asked(0, fields.seed, shown=True)
    preset: str = asked(PUBLISHED, fields.text)
    calibration: str = asked(MSE, fields.calibration)
    target: str = asked(GENERIC.name, fields.target)

    @classmethod
    def may_change(cls) -> frozenset[str]:
        """Return the names of what a run that goes on may be asked for anew."""
        return frozenset(field.name for field in dataclasses.fields(cls) if field.metadata["may_change"])

    def command(self) -> str:
        """Return the command line that asks for such a run.

        Example:
            >>> NetworkRequest(config="flat4", epochs=2).command()
            'po2quant finetune --benchmark digits --alpha auto_po2 --seed 0 --config flat4 --epochs 2'
        """
        words = ["po2quant", self.kind]
        for field in dataclasses.fields(self):
            value, option = getattr(self, field.name), field.metadata["option"]
            if option is None or value is None or (value == field.default and not field.metadata["shown"]):
                continue
            name = option or field.name.replace("_", "-")
            if value is True:
                words.append(f"--{name}")
                continue
            words += [f"--{name}", ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
        return shlex.join(words)

    def to_dict(self) -> dict[str, Any]:
        """Return the request as JSON has it."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}
        return {"schema": SCHEMA, "version": VERSION, "command": self.kind, **plain}

    def save(self, folder: Path) -> None:
        """Write the request into the folder of its run."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / REQUEST_FILE, self.to_dict())

    def cell(self, **values: Any) -> NetworkRequest:
        """Return the request for one network of this run."""
        shared = {field.name: getattr(self, field.name) for field in dataclasses.fields(RunRequest)}
        return NetworkRequest(**shared | values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkRequest(RunRequest):
    """One network in one configuration, to be fine-tuned, scored or exported.

    Args:
        config: name or file of the bit widths.
        config_name: what the configuration is called, where ``config`` does not say it.
        activation_alpha: kind of scales of activations, where it is not ``alpha``.
        epochs: epochs of fine-tuning; None: the recipe's.
        reconstruct: steps for each layer that learn how to round its weights, without labels, before training; 0: none.
    """

    kind: ClassVar[str] = "finetune"

    config: str = asked(MPQ, fields.config, shown=True)
    config_name: str | None = asked(None, optional(fields.text), option=None)
    activation_alpha: str | None = asked(None, optional(fields.alpha))
    epochs: int | None = asked(None, optional(fields.count(0)), may_change=True)
    reconstruct: int = asked(0, fields.count(0))

    @property
    def name(self) -> str:
        """What the configuration is called."""
        return self.config_name or Path(self.config).stem


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReconstructRequest(RunRequest):
    """One network in one configuration, quantized without labels.

    Args:
        config: name or file of the bit widths.
        samples: inputs that it learns from.
        steps: of the optimizer for each layer.
        joint_steps: for all layers at once after that.
    """

    kind: ClassVar[str] = "reconstruct"

    config: str = asked("w4a8", fields.config, shown=True)
    samples: int = asked(1024, fields.count(1))
    steps: int = asked(500, fields.count(0))
    joint_steps: int = asked(0, fields.count(0))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.config == FLOAT:
            raise ValueError("config must name bit widths, not float. Received: 'float'")

    @property
    def name(self) -> str:
        """What the configuration is called."""
        return Path(self.config).stem


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchRequest(RunRequest):
    """A search of bit widths.

    Args:
        max_trials: trials in all.
        epochs: epochs of a trial.
        retrain_epochs: epochs that the closing comparison retrains each configuration for.
        strategy: how trials are chosen.
        kernel_bits: widths of kernels to choose from, ascending.
        bias_bits: of biases.
        activation_bits: of activations.
        max_kib: largest size of weights and activations together; None: any.
        goal: what the metric is traded for; None: the size in bits, or nothing where there is a limit.
        max_flash_kib: most constants of the C, or with the code of a core, such as ``64@m4``; None: any.
        max_ram_kib: largest arena of the C.
        max_ms: longest time, on a core at a clock, such as ``50@m4:120MHz``.
        packed: whether costs of the C are of packed weights.
        repeats: trainings that choose among the best trials.
        input_bits: width of the activations at the network's inputs, which the sensor gives.
        reconstruct: as of :class:`NetworkRequest`, before every trial's training.
    """

    kind: ClassVar[str] = "search"

    max_trials: int = asked(20, fields.count(1), shown=True, may_change=True)
    epochs: int = asked(3, fields.count(1), shown=True)
    retrain_epochs: int = asked(0, fields.count(0))
    strategy: str = asked(INFORMED, fields.one_of(STRATEGY_NAMES))
    kernel_bits: tuple[int, ...] = asked((4, 8, 16), fields.widths("kernel"))
    bias_bits: tuple[int, ...] = asked((16, 31), fields.widths("bias"))
    activation_bits: tuple[int, ...] = asked((4, 8, 16), fields.widths("activation"))
    max_kib: float | None = asked(None, optional(fields.kib))
    goal: str | None = asked(None, optional(fields.cost))
    max_flash_kib: float | str | None = asked(None, optional(fields.flash))
    max_ram_kib: float | None = asked(None, optional(fields.kib))
    max_ms: str | None = asked(None, optional(fields.time))
    packed: bool = asked(False, fields.yes_or_no)
    repeats: int = asked(0, fields.count(0), may_change=True)
    input_bits: int = asked(IO_BITS, fields.bits)
    reconstruct: int = asked(0, fields.count(0))

    def __post_init__(self) -> None:
        super().__post_init__()
        if target_of(self.target).one_width:
            raise ValueError(
                "target of a search must be one whose layers differ in their widths. "
                f"Received: {self.target}, which has one for all"
            )

    @property
    def limits(self) -> list[MaxCost]:
        """The most of each cost that a network may have, in bytes and instructions."""
        limits = [] if self.max_flash_kib is None else [max_flash(self.max_flash_kib)]
        if self.max_ram_kib is not None:
            limits.append(MaxCost(CostName(RAM), self.max_ram_kib * BYTES_PER_KIB))
        return limits if self.max_ms is None else [*limits, max_milliseconds(self.max_ms)]

    @property
    def max_bits(self) -> int | None:
        """Largest size in bits."""
        return None if self.max_kib is None else int(self.max_kib * BITS_PER_KIB)

    def worker_words(self, folder: Path) -> list[str]:
        """Return the command of a worker of a search, which reads the rest in the run folder, without ``--oracle``."""
        words = ["po2quant", self.kind, "--role", WORKER, "--output-dir", str(folder)]
        return [*words, "--benchmark", str(self.benchmark)] if _names_code(self) else words


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatrixRequest(RunRequest):
    """All configurations of a network under all kinds of scales, for one seed.

    Args:
        configs: names or files of bit widths.
        alphas: kinds of scales.
        epochs: epochs of fine-tuning; None: the recipe's.
        reconstruct: as of :class:`NetworkRequest`.
    """

    kind: ClassVar[str] = "matrix"

    alpha: str = asked(AUTO_PO2, fields.alpha, option=None)
    seed: int = asked(0, fields.seed, shown=True, option="seeds")
    configs: tuple[str, ...] = asked(
        (MPQ, "flat16", "flat8", "flat4"), several(fields.config), shown=True, may_change=True
    )
    alphas: tuple[str, ...] = asked((AUTO, AUTO_PO2), several(fields.alpha), shown=True, may_change=True)
    epochs: int | None = asked(None, optional(fields.count(0)))
    reconstruct: int = asked(0, fields.count(0))


REQUESTS: dict[str, type[RunRequest]] = {
    kind.kind: kind for kind in (NetworkRequest, SearchRequest, MatrixRequest, ReconstructRequest)
}


def read_request(folder: Path) -> RunRequest:
    """Return what the run in a folder was asked for.

    Files without a version are those from before version 0.2, which had the same fields.

    Raises:
        ValueError: for a folder without ``config.json``, and for a file that is none, has fields or values that are not
            known, or was written by a later version, naming file and field.
    """
    file = folder / REQUEST_FILE
    if not file.is_file():
        raise ValueError(
            f"RUN must be a run folder, which holds {REQUEST_FILE}; cells of a matrix or comparison do since version "
            f"0.2, and get it when the command that made them is called again. Received: {folder}"
        )
    values = read_json(file, CONTENT)
    schema, version = values.pop("schema", SCHEMA), values.pop("version", 0)
    if schema != SCHEMA or isinstance(version, bool) or version not in (0, VERSION):
        raise ValueError(
            f"{file} must be {CONTENT}, schema {SCHEMA!r} up to version {VERSION}. "
            f"Received: {one_line(repr(schema))}, version {one_line(repr(version))}"
        )
    command = values.pop("command", None)
    if command not in tuple(REQUESTS):
        valid = ", ".join(REQUESTS)
        raise ValueError(f"{file}: command must be one of {valid}. Received: {one_line(repr(command))}")
    kind = REQUESTS[command]
    if kind is SearchRequest and isinstance(values.get("informed"), bool):  # what earlier versions wrote
        values.setdefault("strategy", INFORMED if values.pop("informed") else BAYESIAN)
    known = {field.name: field.metadata["check"] for field in dataclasses.fields(kind)}
    if unknown := sorted(values.keys() - known):
        raise ValueError(f"{file}: the fields must be {', '.join(sorted(known))}. Received: {one_line(unknown[0])!r}")
    for name, value in values.items():
        try:
            known[name](name, value)
        except ValueError as error:
            raise ValueError(f"{file}, {name}: {error}") from None
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def network_of_run(folder: Path, alphas: Sequence[str] = ALPHAS) -> NetworkRequest:
    """Return the request for the quantized network that a run folder, or a cell, holds; those of a matrix hold none.

    Args:
        folder: the run folder.
        alphas: kinds of scales that the network may have.

    Raises:
        ValueError: for another folder, one without a quantized network that was trained, or one of another kind.
    """
    request = read_request(folder)
    for name in (BEST_CONFIG, BEST_WEIGHTS):
        if not (folder / name).is_file():
            raise ValueError(
                f"RUN must hold a quantized network that was trained: {BEST_CONFIG} and {BEST_WEIGHTS}. "
                f"Received: {folder}, without {name}"
            )
    if request.alpha not in alphas:
        raise ValueError(
            f"RUN must have scales that are powers of two, alpha={' or '.join(alphas)}: others are no shifts. "
            f"Received: {folder}, made with alpha={request.alpha!r}"
        )
    name = request.name if isinstance(request, NetworkRequest | ReconstructRequest) else MPQ
    return request.cell(weights=folder, config=str(folder / BEST_CONFIG), config_name=name)


def _names_code(request: TaskRequest) -> bool:
    return request.benchmark is not None and is_module_attribute(request.benchmark)


def check_trusted(request: RunRequest, named: str | None, folder: Path) -> None:
    """Raise ValueError where loading a request's benchmark would run a module that a file alone names.

    Args:
        request: as read from a folder, and perhaps changed.
        named: the benchmark that the user named; None: none.
        folder: the run folder.
    """
    if _names_code(request) and named != request.benchmark:
        raise ValueError(
            f"{folder / REQUEST_FILE} names code, which would run: benchmark {one_line(request.benchmark)!r}. "
            f"If you trust it, say so by --benchmark {one_line(request.benchmark)}"
        )
