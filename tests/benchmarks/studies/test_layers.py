"""The tables of layers in the documents: complete, and as the code is."""

from benchmarks.studies import layers as study
from benchmarks.studies.document import END, begin_mark
from po2quant.network.lowering.operators import OPERATORS


def test_the_document_is_what_the_command_writes():
    """Run ``python -m benchmarks.studies.layers`` where it is not."""
    text = study.REPORT.read_text(encoding="utf-8")
    _, _, results = text.partition(begin_mark(study.COMMAND))
    assert results.partition(END)[0].strip() == "\n\n".join(study.sections())


def test_every_operator_has_an_example():
    assert {study.operator_class(name) for name in study.OPERATORS} == set(OPERATORS)


def test_every_layer_of_keras_is_in_the_document():
    names = {*study.supported_layers(), *study.REFUSED, *study.other_layers(), "InputLayer"}
    assert {"Conv2D", "Conv1D", "LayerNormalization", "Conv3D", "Lambda"} <= names
