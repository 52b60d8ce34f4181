"""``po2quant zoo``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from po2quant.cli.output import Facts, print_table, say
from po2quant.cost import BITS_PER_KIB
from po2quant.runs.folder import check_writable
from po2quant.zoo import networks

COLUMNS = ("network", "bits KiB", "file KiB", "score", "float", "tested on")


def zoo(
    name: Annotated[str | None, typer.Argument(help="A network, to be told about or written.")] = None,
    format: Annotated[
        str, typer.Option("--format", help="What to write: program, text, c, cmake and others that export has.")
    ] = "c",
    output_dir: Annotated[Path | None, typer.Option("--output-dir", help="Where NAME is written.")] = None,
) -> Facts:
    """List trained networks, tell how one was made, or write one as C or in another format."""
    known = networks()
    if name is None:
        if output_dir is not None:
            raise ValueError("--output-dir needs NAME: the network to write")
        print_table(_table())
        return {entry: dataclasses.asdict(facts) for entry, facts in known.items()}
    if name not in known:
        raise ValueError(f"NAME must be one of {', '.join(known)}. Received: {name!r}")
    network = known[name]
    facts = dataclasses.asdict(network) | {"file": str(network.file)}
    if output_dir is None:
        for key, value in facts.items():
            say(f"{key.replace('_', ' ')}: {value}")
        return facts
    check_writable(output_dir)
    from po2quant.deploy.formats import write_program

    files = write_program(format, network.load(), name.replace("-", "_"), output_dir)
    for path in files:
        say(f"{format}: {path}, {path.stat().st_size} bytes")
    return facts | {"files": [str(path) for path in files]}


def _table() -> object:
    from po2quant.tables import narrow_table

    table = narrow_table()
    for index, column in enumerate(COLUMNS):
        is_text = index in (0, len(COLUMNS) - 1)
        heading = column if is_text else column.replace(" ", "\n")
        table.add_column(
            heading, justify="left" if is_text else "right", overflow="fold", no_wrap=index < len(COLUMNS) - 1
        )
    for network in networks().values():
        numbers = network.size_bits / BITS_PER_KIB, network.file.stat().st_size / 1024
        scores = network.score, network.float_score
        cells = [*(f"{number:.1f}" for number in numbers), *(f"{score:.4f}" for score in scores)]
        table.add_row(network.name, *cells, f"{network.samples} of {network.data.partition(' (')[0]}")
    return table
