"""The bundled networks on emulated microcontrollers: every tensor as the interpreter has it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from frozen_networks import OVERFLOW, noise, randomize
from random_programs import assert_same

from benchmarks.visual_wake_words import efficientnet_b0, mobilenet_v2
from po2quant.benchmark import load_benchmark
from po2quant.bit_config import BitConfig
from po2quant.deploy.from_keras import integer_program
from po2quant.export.c.source import write_c
from po2quant.export.cores.emulator import CORES, compile_for
from po2quant.integer.interpreter import quantize_inputs, run
from po2quant.network import calibrate, flat_config, freeze_scales, quantize_model, set_bits

BEST_CONFIGS = Path(__file__).resolve().parents[2] / "best_configs"
PUBLISHED = None
"""Widths of the network's file in best_configs."""

NETWORKS = {
    "anomaly_detection-autoencoder": (("m0", 8, False), ("m4", PUBLISHED, True), ("m55", PUBLISHED, False)),
    "keyword_spotting-ds_cnn": (("rv32imc", 8, False), ("m4", PUBLISHED, True), ("m55", PUBLISHED, False)),
    "image_classification-resnet8": (("m4", 8, False), ("m55", PUBLISHED, False)),
    "visual_wake_words-mobilenet_v1": (("m4", PUBLISHED, False), ("m55", PUBLISHED, True)),
    "visual_wake_words-mobilenet_v2": (("m0", 8, False), ("m4", 4, True), ("m55", 8, False)),
    "visual_wake_words-efficientnet_b0": (("m4", 8, False), ("m55", 4, True), ("m7", 8, False)),
}
"""By network: a core, the widths, and whether weights are packed."""


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give MobileNetV2 and EfficientNet-B0 fewer channels, repeats and pixels, as a board's memory has room for."""
    blocks = [(t, c // 4, min(n, 2), s) for t, c, n, s in mobilenet_v2.BOTTLENECKS[:5]]
    stages = [(t, k, c // 4, min(n, 2), s) for t, k, c, n, s in efficientnet_b0.STAGES[:5]]
    monkeypatch.setattr(mobilenet_v2, "BOTTLENECKS", blocks)
    monkeypatch.setattr(efficientnet_b0, "STAGES", stages)
    for module in (mobilenet_v2, efficientnet_b0):
        for name, value in (("INPUT_SHAPE", (48, 48, 3)), ("STEM_FILTERS", 8), ("HEAD_FILTERS", 64)):
            monkeypatch.setattr(module, name, value)


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_every_tensor_of_the_bundled_networks(network, tmp_path, monkeypatch):
    """Random weights, inputs that saturate; the two large networks in a small form."""
    missing = {tool for core, _, _ in NETWORKS[network] for tool in CORES[core].missing_tools()}
    if missing:
        pytest.skip(f"{', '.join(sorted(missing))} not installed")
    shrink(monkeypatch)
    spec = load_benchmark(network.partition("-")[0]).networks[network.partition("-")[2]]
    model = randomize(spec.build())
    x = noise(model, 1)
    quantized = quantize_model(model, flat_config(model, 8, spec.placement), placement=spec.placement)
    for core, bits, pack in NETWORKS[network]:
        published = BitConfig.load(BEST_CONFIGS / f"{network}.json") if bits is PUBLISHED else None
        set_bits(quantized, published or flat_config(model, bits, spec.placement))
        calibrate(quantized, x)
        freeze_scales(quantized)
        program = integer_program(quantized)
        inputs, folder = quantize_inputs(program, np.multiply(OVERFLOW, x)), tmp_path / core
        source = write_c(program, folder, "network", pack)
        executable = compile_for(CORES[core], source, folder, trace=True, flags=("-O2",))
        assert_same(executable.run(inputs), run(program, inputs))
