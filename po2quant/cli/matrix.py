"""``po2quant matrix``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from po2quant.cli.options import (
    BenchmarkOption,
    DataDirOption,
    DataOption,
    EpochsOption,
    ModelOption,
    PresetOption,
    WeightsOption,
)
from po2quant.cli.session import (
    INTERRUPTED,
    check_seed,
    data_words,
    find_benchmark,
    import_tensorflow_quietly,
    load_dataset,
    open_run_folder,
    say,
    whole_numbers,
)


def matrix(
    benchmark: BenchmarkOption = "digits",
    model: ModelOption = None,
    weights: WeightsOption = None,
    configs: Annotated[
        str, typer.Option("--configs", help="Configurations, separated by commas.")
    ] = "mpq,flat16,flat8,flat4",
    alphas: Annotated[
        str, typer.Option("--alphas", help="Kinds of scales, separated by commas: auto, auto_po2, learned_po2.")
    ] = "auto,auto_po2",
    seeds: Annotated[str, typer.Option("--seeds", help="Seeds, separated by commas.")] = "0",
    epochs: EpochsOption = None,
    preset: PresetOption = "published",
    data: DataOption = None,
    data_dir: DataDirOption = None,
    output_dir: Annotated[
        Path, typer.Option("--output-dir", help="Folder of the run folders; what is done in it is not done again.")
    ] = Path("runs/matrix"),
    results: Annotated[
        Path, typer.Option("--results", help="CSV that gets the rows; a Markdown table is written beside it.")
    ] = Path("best_configs/RESULTS.csv"),
) -> None:
    """Score a network under all configurations and scales, before and after fine-tuning; rebuild the results table."""
    import_tensorflow_quietly()
    from po2quant.matrix import run_matrix
    from po2quant.quantizers import check_alpha
    from po2quant.training import finetune as workflow
    from po2quant.training.interrupt import insistent_interrupt
    from po2quant.training.prepare import resolve_config

    task = find_benchmark(benchmark)
    name, spec = task.network(model)
    network = spec.fold()
    for config in configs.split(","):
        resolve_config(config, spec, network)
    for alpha in alphas.split(","):
        check_alpha(alpha)
    workflow.require_float_weights(weights)
    every_seed = whole_numbers(seeds, "--seeds")
    for seed in every_seed:
        check_seed(seed)
    for seed in every_seed:
        dataset = load_dataset(task, data, data_dir, seed)
        workflow.require_training_data(dataset)
        folder = output_dir / f"{task.name}-{name}-seed{seed}"
        resume = (folder / "config.json").exists()
        experiment = workflow.Experiment(
            task, name, dataset, weights=weights, seed=seed, preset=preset, resume=resume, folded=network
        )
        seed_epochs = experiment.recipe.epochs if epochs is None else epochs
        run = open_run_folder("matrix", experiment, folder, epochs=seed_epochs, data=data, data_dir=data_dir)

        def command(config: str, alpha: str, seed: int = seed) -> list[Any]:
            words = ["po2quant", "finetune", "--benchmark", benchmark, "--model", name, "--config", config]
            words += ["--alpha", alpha] if alpha != "float" else []
            words += ["--weights", weights] if weights else []
            words += ["--epochs", epochs] if epochs is not None else []
            return [*words, *data_words(data, data_dir, preset), "--seed", seed]

        try:
            with insistent_interrupt():
                run_matrix(
                    experiment, configs.split(","), alphas.split(","), seed_epochs, run.path, results, command, say
                )
        except KeyboardInterrupt:
            say("stopped; the same command goes on")
            raise typer.Exit(INTERRUPTED) from None
    say(f"table: {results}, {results.with_suffix('.md')}")
