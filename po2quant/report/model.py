"""A network in a table: layers, bits, KiB, MACs and kinds of scales."""

from __future__ import annotations

import dataclasses
import html
import io

import keras
import qkeras
from rich.console import Console

from po2quant.bit_config import FLOAT, BitConfig, LayerBits
from po2quant.cost import ACTIVATION, SUMMARY_COLUMNS, WEIGHTS, LayerShape, summary_rows
from po2quant.network import activation_quantizers, fold, slot_quantizers
from po2quant.network.graph import Node, read_graph
from po2quant.network.placement import PlacedSlot, Slot, count_layers
from po2quant.tables import narrow_table

COLUMNS = (*SUMMARY_COLUMNS, "scales")
WIDTH, FLOAT_BITS = 80, 32


@dataclasses.dataclass(frozen=True)
class ModelSummary:
    """A network in a table, for a terminal and for a notebook.

    Args:
        name: of the network.
        rows: a row of text for each layer and activation, and a total, as :data:`COLUMNS`.
    """

    name: str
    rows: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, model: keras.Model) -> ModelSummary:
        """Return the summary of a float network, as it is folded, or of a quantized one."""
        if not any(True for _ in activation_quantizers(model)):
            layers = fold(model).layers
            counted = [layer for layer in layers if layer.kind in (WEIGHTS, ACTIVATION)]
            config = BitConfig({layer.name: _float_bits(layer) for layer in counted})
            rows = summary_rows(layers, config)
            return cls(model.name, tuple((*row, FLOAT if row[0] in config.layers else "") for row in rows))
        config = config_of(model)
        alphas = config.alphas()
        rows = summary_rows(_layers(model), config)
        return cls(model.name, tuple((*row, alphas.get(row[0], "")) for row in rows))

    def __str__(self) -> str:
        """Return a table of 80 columns."""
        table = narrow_table(self.name)
        for index, column in enumerate(COLUMNS):
            is_text = index in (0, 1, len(COLUMNS) - 1)
            table.add_column(column, justify="left" if is_text else "right", overflow="fold", no_wrap=not is_text)
        for index, row in enumerate(self.rows):
            if index == len(self.rows) - 1:
                table.add_section()
            table.add_row(*row)
        text = io.StringIO()
        Console(file=text, width=WIDTH).print(table)
        return text.getvalue().rstrip()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return a table for a notebook."""
        cells = [("th", COLUMNS), *(("td", row) for row in self.rows)]
        lines = "".join(
            f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in row)}</tr>" for tag, row in cells
        )
        return f"<table><caption>{html.escape(self.name)}</caption>{lines}</table>"


def _float_bits(layer: LayerShape) -> LayerBits:
    if layer.kind == ACTIVATION:
        return LayerBits(activation=FLOAT_BITS)
    return LayerBits(FLOAT_BITS, FLOAT_BITS)


def config_of(model: keras.Model) -> BitConfig:
    """Return the widths and kinds of scales that a quantized model has."""
    parts: dict[str, dict[str, int]] = {}
    alphas: dict[str, str | None] = {}
    for slot, quantizer in slot_quantizers(model).items():
        name, _, part = slot.rpartition(".")
        parts.setdefault(name, {})[part] = quantizer.bits
        if part != "bias":
            alphas[name] = quantizer.alpha
    layers = {
        name: LayerBits(bits.get("kernel"), bits.get("bias"), bits.get("activation"), alphas.get(name))
        for name, bits in parts.items()
    }
    return BitConfig(layers, model.name)


def _layers(model: keras.Model) -> list[LayerShape]:
    """Return what the accounting counts of a quantized model."""
    entries: list[Node | PlacedSlot] = []
    for node in read_graph(model).every_node:
        if isinstance(node.layer, qkeras.QActivation):
            slot = Slot(node.layer.name, node.inputs[0].layer.name, None, True, node.fixed_shape)
            entries.append(PlacedSlot(slot, node, None))
        else:
            entries.append(node)
    return count_layers(entries)
