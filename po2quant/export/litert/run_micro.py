"""Runs in an environment with tflite-micro, without po2quant: computes with LiteRT's kernels for microcontrollers.

``python run_micro.py FOLDER`` runs each ``<name>.tflite`` there on the arrays ``0``, ``1``, ... of ``<name>.npz``, one
sample at a time, and writes its outputs, as many as ``outputs`` there says, into ``<name>.out.npz``.
"""

import sys
from pathlib import Path

import numpy as np
from tflite_micro.python.tflite_micro import runtime

ARENA_BYTES = 16 * 2**20


def main(folder):
    """Run what is in a folder."""
    for file in sorted(folder.glob("*.tflite")):
        with np.load(file.with_suffix(".npz")) as stored:
            inputs = [stored[name] for name in sorted(set(stored.files) - {"outputs"}, key=int)]
            outputs = int(stored["outputs"])
        interpreter = runtime.Interpreter.from_file(str(file), arena_size=ARENA_BYTES)
        samples = []
        for sample in range(len(inputs[0])):
            for place, array in enumerate(inputs):
                interpreter.set_input(array[sample : sample + 1], place)
            interpreter.invoke()
            samples.append([interpreter.get_output(place).copy() for place in range(outputs)])
        arrays = {str(place): np.concatenate(parts) for place, parts in enumerate(zip(*samples, strict=True))}
        np.savez(file.with_suffix(".out.npz"), **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
