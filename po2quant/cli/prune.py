"""``po2quant prune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from po2quant.bit_config import FLOAT
from po2quant.cli.options import DATA, WHICH, Task, run_options, with_task
from po2quant.cli.output import Facts, print_table, say
from po2quant.cli.session import begin_with_widths, load_dataset
from po2quant.files import replaced_whole
from po2quant.runs.request import NetworkRequest
from po2quant.tables import narrow_table

SUFFIX = ".keras"


@with_task(run_options("weights", "seed"), WHICH, DATA, request=NetworkRequest)
def prune(
    task: Task,
    keep: Annotated[float, typer.Option("--keep", help="Share of the kernels' weights that is left, in (0, 1].")],
    output: Annotated[Path, typer.Option("--output", help="File of the smaller network, .keras.")],
) -> Facts:
    """Take those channels out of a float network that the next layers miss the least: channels of 0 bits.

    What is left is a network of its own, for every other command's --network; train it: its score falls at first.
    """
    if not task.keys() & {"weights", "network"}:
        raise ValueError("prune needs --weights, a weight file or a run folder, or --network")
    if not 0.0 < keep <= 1.0:
        raise ValueError(f"keep must be in (0, 1]. Received: keep={keep}")
    if output.suffix != SUFFIX or not output.parent.is_dir():
        raise ValueError(f"output must be a {SUFFIX} file in a folder that is there. Received: {output}")
    request = NetworkRequest(**task, config=FLOAT)
    benchmark, request, network, _ = begin_with_widths(request)
    from po2quant.network import fold
    from po2quant.network.pruning import prune as pruned
    from po2quant.network.pruning import weakest_channels
    from po2quant.training.prepare import calibration_inputs, evaluate, load_float_network

    network = load_float_network(network, request.weights or network.source)
    dataset = load_dataset(benchmark, request)
    inputs, source = calibration_inputs(dataset, network.model, request.seed)
    model = pruned(network, weakest_channels(network, inputs, keep))
    with replaced_whole(output) as temporary:
        model.save(temporary)
    left = {layer.name: layer.kernel_parameters for layer in fold(model, network.placement).layers}
    table = narrow_table()
    for column in ("layer", "weights", "left"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for layer in network.layers:
        if layer.kernel_parameters:
            table.add_row(layer.name, str(layer.kernel_parameters), str(left[layer.name]))
    print_table(table)
    scores = [evaluate(benchmark, one, dataset.test) for one in (network.model, model)]
    say(f"{scores[0].metric} {scores[0].value:.4f}, pruned and not trained {scores[1].value:.4f}")
    say(f"chosen on {len(inputs)} inputs ({source}); next: po2quant finetune --network {output}")
    return {
        "output": str(output),
        "keep": keep,
        "weights": sum(layer.kernel_parameters for layer in network.layers),
        "weights_left": sum(left.values()),
        "metric": scores[0].metric,
        "score": scores[0].value,
        "score_pruned": scores[1].value,
        "seed": request.seed,
    }
