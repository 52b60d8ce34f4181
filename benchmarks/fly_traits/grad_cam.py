"""Grad-CAM: where in a picture a network looks for a trait, with key points and without.

``python -m benchmarks.fly_traits.grad_cam --with-key-points A.weights.h5 --plain B.weights.h5 --output P.png`` draws a
row of synthetic flies, and what each network looks at for the wings.

Source: Selvaraju et al. 2017, "Grad-CAM: Visual explanations from deep networks", arXiv 1610.02391.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from po2quant.figures import new_figure, save_figure
from po2quant.weight_files import load_weights

from .anatomy import TRAITS
from .classifier import FORMS, TRAITS_HEAD, WIDTH, traits_network
from .data import SCALE, SIZE
from .generator import crops
from .staged import resized

LAYER = "block7_add"
"""The last of the maps that have a place for every 16 pixels; those of 32 pixels tell little of small pictures."""
FLIES = 6


def grad_cam(network: keras.Model, x: np.ndarray, trait: int, layer: str = LAYER) -> np.ndarray:
    """Return how much each place speaks for what a network says of a trait.

    With feature maps A of a layer and the logit z of the trait, negated where it is below 0:
    ``relu(sum_k mean(dz/dA_k) * A_k)``, divided by its largest value.

    Args:
        network: of :func:`.classifier.traits_network`.
        x: pictures, float32 ``(pictures, size, size, 3)``.
        trait: index of it.
        layer: name of a layer of feature maps.

    Returns:
        float32 in 0..1, ``(pictures, rows, columns)`` of the layer.
    """
    outputs = [network.get_layer(layer).output, network.get_layer(f"{TRAITS_HEAD}_logits").output]
    explained = keras.Model(network.inputs, outputs)
    pictures = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(pictures)  # and so all that follows from them
        maps, logits = explained(pictures, training=False)
        said = tf.abs(logits[:, trait])
    gradients = tape.gradient(said, maps)
    heat = tf.nn.relu(tf.reduce_sum(tf.reduce_mean(gradients, axis=(1, 2), keepdims=True) * maps, axis=-1)).numpy()
    return heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)


def picture(networks: dict[str, keras.Model], pixels: np.ndarray, trait: int) -> Figure:
    """Return a figure: a row of flies, and a row of heat over them for each network.

    Args:
        networks: by their titles.
        pixels: uint8 ``(flies, size, size, 3)``.
        trait: index of it.
    """
    figure = new_figure(f"synthetic flies; Grad-CAM for the trait {list(TRAITS)[trait]} at {LAYER}", 6.6, 3.6)
    rows = {"flies": None, **networks}
    axes = figure.subplots(len(rows), len(pixels), squeeze=False)
    for line, (title, network) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(title)
        heat = None if network is None else grad_cam(network, pixels * np.float32(SCALE), trait)
        for index, place in enumerate(line):
            place.set(xticks=[], yticks=[])
            place.imshow(pixels[index])
            if heat is not None:
                grey = np.rint(255 * heat[index]).astype(np.uint8)
                place.imshow(resized(grey[None], pixels.shape[1])[0], cmap="inferno", alpha=0.6, vmin=0, vmax=255)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fly_traits.grad_cam", description=__doc__)
    parser.add_argument("--with-key-points", type=Path, required=True, help="weights of the network with key points")
    parser.add_argument("--plain", type=Path, required=True, help="weights of the network without")
    parser.add_argument("--form", default="small", choices=FORMS)
    parser.add_argument("--width", type=float, default=WIDTH)
    parser.add_argument("--trait", default="wing", choices=TRAITS)
    parser.add_argument("--seed", type=int, default=1, help="of the flies")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    networks = {
        "key points": traits_network(FORMS[options.form], True, options.width),
        "without": traits_network(FORMS[options.form], False, options.width),
    }
    try:
        for network, weights in zip(networks.values(), (options.with_key_points, options.plain), strict=True):
            load_weights(network, weights)
    except ValueError as error:
        parser.exit(2, f"error: {error}\n")
    flies = crops(FLIES, SIZE, options.seed).pixels
    save_figure(picture(networks, flies, list(TRAITS).index(options.trait)), options.output)


if __name__ == "__main__":
    main()
