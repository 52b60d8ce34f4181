"""Networks under a budget of weight bytes: channels of 0 bits, layer-wise widths, reconstruction, training.

``python -m benchmarks.studies.weight_budget --benchmark image_classification --weights ic_resnet8.h5 --data-dir D
--kilobytes 26 --keep 1 0.6 --float-epochs 2 --epochs 8`` takes out the channels that are missed the least until a share
of the weights is left, trains the float network that remains for a few epochs, chooses the widths of its kernels by the
sensitivities that a search's first trials come from, learns the rounding without labels, then trains with the preset
``strong``. Kilobytes are 1000 bytes of kernels, without biases, as the published fronts count them. Each stage is a row
of ``benchmarks/results/weight-budget.csv``. A row that is there is not measured again, and a run that was stopped goes
on after its last epoch. ``--report`` writes the table of ``docs/low-bits.md``.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from benchmarks.studies.document import table, write_results
from benchmarks.studies.ending import ending_in_words
from benchmarks.studies.provenance import command_line
from benchmarks.studies.rows import add_row, has_row
from po2quant.benchmark import load_benchmark
from po2quant.bit_config import AUTO_PO2, BitConfig, check_widths
from po2quant.cost import WEIGHTS, LayerShape
from po2quant.files import read_csv
from po2quant.graphs import graphs_released
from po2quant.network import FoldedNetwork
from po2quant.network.pruning import prune, weakest_channels
from po2quant.runs.folder import project_commit
from po2quant.search.allocation import Allocator
from po2quant.search.problem import Values
from po2quant.search.sensitivity import Sensitivity, sensitivity_sweep
from po2quant.search.space import widths_of, widths_of_config
from po2quant.training.finetune import Experiment, Workbench, require_training_data, train_float
from po2quant.training.prepare import calibration_inputs, evaluate
from po2quant.training.reconstruct import Reconstruction
from po2quant.training.schedules import constant
from po2quant.uniform import UniformWidths

RESULTS, RUNS = Path("benchmarks/results/weight-budget.csv"), Path("runs/weight_budget")
REPORT, REPORT_COMMAND = Path("docs/low-bits.md"), "python -m benchmarks.studies.weight_budget --report"
STAGES = ("float", "reconstructed", "finetuned")
KEY = ("benchmark", "model", "kilobytes", "keep", "widths", "float_epochs", "float_rate", "epochs", "seed", "stage")
BITS_PER_KILOBYTE = 8000
MEASURED_SAMPLES = 1024


@dataclasses.dataclass(frozen=True)
class KernelBits:
    """Bits of all kernels, without biases.

    Args:
        layers: the network as the bit accounting sees it.
    """

    layers: Sequence[LayerShape]

    def __call__(self, values: Values) -> int:
        """Return them for the widths of a network."""
        widths = widths_of(values)
        return sum(
            layer.kernel_parameters * widths[f"{layer.name}.kernel"] for layer in self.layers if layer.kind == WEIGHTS
        )


def sensitivities(experiment: Experiment, base: BitConfig, kernel_bits: Sequence[int]) -> list[Sensitivity]:
    """Return what each kernel costs at each width, all else as in ``base`` and kernels at their widest."""
    network, dataset = experiment.float_network, experiment.dataset
    config = experiment.completed(base)
    choices = {
        slot: tuple(kernel_bits) if slot.endswith(".kernel") else (bits,)
        for slot, bits in widths_of_config(config).items()
    }
    model = network.quantize(config)
    inputs, _ = calibration_inputs(dataset, model, experiment.seed)
    samples = require_training_data(dataset)[0].without_augmentation().drawn(MEASURED_SAMPLES, experiment.seed)
    return sensitivity_sweep(model, choices, inputs, samples, experiment.recipe.loss)


def allocated(
    network: FoldedNetwork, rows: Sequence[Sensitivity], base: BitConfig, kilobytes: float
) -> tuple[BitConfig, int]:
    """Return the configuration of least summed error whose kernels fit, and their bits."""
    cost = KernelBits(network.layers)
    widths = Allocator(rows, network.layers, cost=cost).allocate(kilobytes * BITS_PER_KILOBYTE).widths
    return base.with_widths(widths), cost(widths)


@dataclasses.dataclass(frozen=True)
class Cell:
    """What is asked of one network.

    Args:
        kilobytes: most that its kernels may take.
        keep: share of the weights that pruning leaves.
        kernel_bits: widths to choose from.
        float_epochs: epochs of the float network before it is quantized.
        float_rate: their learning rate; None: the recipe's.
        epochs: epochs after.
    """

    kilobytes: float
    keep: float
    kernel_bits: tuple[int, ...]
    float_epochs: int
    float_rate: float | None
    epochs: int

    def key(self, experiment: Experiment) -> tuple[str, ...]:
        """Return the values of :data:`KEY` but the stage."""
        return (
            experiment.benchmark.name,
            experiment.model,
            f"{self.kilobytes:g}",
            f"{self.keep:g}",
            "-".join(map(str, self.kernel_bits)),
            str(self.float_epochs),
            "" if self.float_rate is None else f"{self.float_rate:g}",
            str(self.epochs),
            str(experiment.seed),
        )


def pruned(experiment: Experiment, keep: float) -> Experiment:
    """Return the experiment with the network, and its weights, that pruning leaves."""
    network = experiment.float_network
    if keep == 1.0:
        return experiment
    inputs, _ = calibration_inputs(experiment.dataset, network.model, experiment.seed)
    model = prune(network, weakest_channels(network, inputs, keep))
    spec = dataclasses.replace(experiment.spec, build=lambda: _copy(model))
    networks = {**experiment.benchmark.networks, experiment.model: spec}
    benchmark = dataclasses.replace(experiment.benchmark, networks=networks)
    return dataclasses.replace(experiment, benchmark=benchmark, weights=model, stored=None, folded=None)


def _copy(model: keras.Model) -> keras.Model:
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def trained_in_float(experiment: Experiment, epochs: int, rate: float | None, folder: Path) -> Experiment:
    """Return the experiment that starts from its float network after some epochs of the recipe, without quantizers."""
    if not epochs:
        return experiment
    start = experiment.float_network.model
    float_rate = None if rate is None else constant(rate)
    recipe = dataclasses.replace(experiment.recipe, float_epochs=epochs, float_learning_rate=float_rate)
    spec = dataclasses.replace(
        experiment.spec, build=lambda: _copy(start), recipes={**experiment.spec.recipes, experiment.preset: recipe}
    )
    networks = {**experiment.benchmark.networks, experiment.model: spec}
    benchmark = dataclasses.replace(experiment.benchmark, networks=networks)
    experiment = dataclasses.replace(experiment, benchmark=benchmark, stored=None, folded=None)
    return dataclasses.replace(experiment, weights=train_float(experiment, folder))


def run_cell(experiment: Experiment, cell: Cell, runs: Path, results: Path, command: str) -> None:
    """Measure the stages of a cell and write their rows."""
    key = cell.key(experiment)
    if has_row(results, (*key, "finetuned" if cell.epochs else "reconstructed"), KEY):
        return
    folder = runs / "-".join(key)
    before = runs / "-".join(("float", *key[:2], key[3], *key[5:7], key[-1]))  # cells of other widths share it
    experiment = trained_in_float(pruned(experiment, cell.keep), cell.float_epochs, cell.float_rate, before)
    network, dataset = experiment.float_network, experiment.dataset
    base = network.uniform(UniformWidths(max(cell.kernel_bits), 8, 8), f"{cell.kilobytes:g}kB")
    config, bits = allocated(network, sensitivities(experiment, base, cell.kernel_bits), base, cell.kilobytes)
    shapes = {layer.name: layer.kernel_parameters for layer in network.layers if layer.kind == WEIGHTS}
    facts = {
        "kernel_kilobytes": round(bits / BITS_PER_KILOBYTE, 3),
        "kernel_bits": " ".join(f"{name}={config.kernel_bits(name)}x{size}" for name, size in shapes.items()),
        "activation_bits": 8,
        "train_samples": len(require_training_data(dataset)[0]),
        "data": dataset.describe(),
    }
    sys.stdout.write(f"{' '.join(key)}: {facts['kernel_kilobytes']} kB, {facts['kernel_bits']}\n")
    sys.stdout.flush()
    with graphs_released():
        float_score = evaluate(experiment.benchmark, network.model, dataset.test)
        result = Workbench(experiment).finetune_and_score(config.name, config, folder, cell.epochs)
    scores = {
        "float": float_score,
        "calibrated": result.calibrated,
        "reconstructed": result.reconstructed,
        "finetuned": result.finetuned,
    }
    for stage, score in scores.items():
        if score is not None:
            measured = {"metric": score.metric, "score": round(score.value, 6), "test_samples": score.samples}
            made = {"seconds": result.seconds, "commit": project_commit(), "command": command}
            add_row(results, dict(zip(KEY, (*key, stage), strict=True)) | measured | facts | made, KEY)
            sys.stdout.write(f"{' '.join(key)} {stage}: {score.value:.4f}\n")
            sys.stdout.flush()


def budgets_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return a line for each network: its kernels, the scores of its stages, and how far the last is from float."""
    cells: dict[tuple[str, ...], dict[str, Mapping[str, str]]] = {}
    for row in sorted(rows, key=lambda row: (-float(row["kilobytes"]), -float(row["keep"]), int(row["epochs"]))):
        cells.setdefault(tuple(row[name] for name in KEY[:-1]), {})[row["stage"]] = row
    lines = []
    for stages in cells.values():
        last = next(stages[stage] for stage in reversed(STAGES) if stage in stages)
        widths = ", ".join(part.partition("=")[2].replace("x", " bits x ", 1) for part in last["kernel_bits"].split())
        scores = [f"{float(stages[stage]['score']):.4f}" if stage in stages else "" for stage in STAGES]
        loss = float(last["score"]) - float(stages["float"]["score"])
        rate = f" at {last['float_rate']}" if last["float_rate"] else ""
        trained = f"{last['float_epochs']}{rate}, {last['epochs']}"
        lines.append([last["kernel_kilobytes"], last["keep"], widths, trained, *scores, f"{loss:+.4f}"])
    columns = ["kB of kernels", "weights left", "kernels", "epochs before, after", "float", "reconstructed"]
    return table([*columns, "fine-tuned", "to its float"], lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.weight_budget", description=__doc__)
    parser.add_argument("--benchmark", default="image_classification")
    parser.add_argument("--model")
    parser.add_argument("--weights", type=Path, help="float weights")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--preset", default="strong")
    parser.add_argument("--kilobytes", nargs="+", type=float, default=[26.0])
    parser.add_argument("--keep", nargs="+", type=float, default=[1.0], help="share of the weights that pruning leaves")
    parser.add_argument("--float-epochs", type=int, default=0, help="of the float network, before it is quantized")
    parser.add_argument("--float-rate", type=float, help="learning rate of the float network; the preset's by default")
    parser.add_argument("--kernel-bits", nargs="+", type=int, default=[2, 3, 4, 5, 6, 8])
    parser.add_argument("--epochs", type=int, default=0, help="0: reconstruct alone")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--output-dir", type=Path, default=RUNS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true", help=f"write the table into {REPORT}, run nothing")
    return parser


def _run_all(options: argparse.Namespace, command: str) -> None:
    check_widths("kernel_bits", options.kernel_bits)
    if options.weights is None:
        raise ValueError("weights must be a file of float weights. Received: none")
    benchmark = load_benchmark(options.benchmark)
    model, _ = benchmark.network(options.model)
    for seed in options.seeds:
        experiment = Experiment(
            benchmark, model, benchmark.load_data(options.data_dir, seed), AUTO_PO2, options.weights, seed,
            options.preset, resume=True, reconstruction=Reconstruction(),
        )  # fmt: skip
        for kilobytes, keep in itertools.product(options.kilobytes, options.keep):
            cell = Cell(
                kilobytes, keep, tuple(options.kernel_bits), options.float_epochs, options.float_rate, options.epochs
            )
            run_cell(experiment, cell, options.output_dir, options.results, command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    tf.get_logger().setLevel("ERROR")
    with ending_in_words(parser):
        if options.report:
            write_results(REPORT, REPORT_COMMAND, [budgets_table(read_csv(options.results))])
        else:
            _run_all(options, command_line("benchmarks.studies.weight_budget", arguments))


if __name__ == "__main__":
    main()
