"""Fixed-point features against those in floating point: what they differ by, and what the networks make of it.

``python -m benchmarks.studies.features --weights ../shared/pretrained --data-dir ../shared/data`` writes
``benchmarks/results/features.csv``: keyword spotting's test clips, and the sound files of machines, through the numpy
model and the C of the features, and both features through the float network and the integer program at flat 8.
``--export DIR`` writes the C of both, for the inputs of those programs, instead.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.anomaly_detection.features import SAMPLE_RATE_HZ, join_frames, log_mel_db
from benchmarks.anomaly_detection.fixed import fixed_log_mel
from benchmarks.anomaly_detection.recordings import find_recordings
from benchmarks.keyword_spotting.clips import LabelledClips
from benchmarks.keyword_spotting.data import SUBSET
from benchmarks.keyword_spotting.features import int16_levels, mfcc
from benchmarks.keyword_spotting.fixed import fixed_mfcc
from benchmarks.keyword_spotting.official import LISTS, TEST, clips_by_class, parts_of
from benchmarks.studies.deployment import data_of
from benchmarks.studies.ending import ending_in_words
from benchmarks.studies.provenance import command_line
from po2quant.benchmark import load_benchmark
from po2quant.bit_config import AUTO_PO2
from po2quant.data.archives import find_archive
from po2quant.data.audio import read_sound, resampled_mono
from po2quant.deploy.from_keras import integer_program
from po2quant.deploy.network import frozen_network
from po2quant.export.c.run import COMPILER, FLAGS, compile_c
from po2quant.export.c.source import write_c
from po2quant.export.features.fixed import FixedFeatures, run_features
from po2quant.export.features.to_c import write_features
from po2quant.files import write_csv
from po2quant.fixed_point import FixedPointFormat
from po2quant.integer.interpreter import quantize_inputs
from po2quant.integer.program import Program
from po2quant.progress import progress_line
from po2quant.runs.folder import project_commit
from po2quant.training.prepare import resolve_config
from po2quant.weight_files import load_weights

OUTPUT = Path("benchmarks/results/features.csv")
CONFIG, FINE = "flat8", FixedPointFormat(16, -7)
"""The program's widths; the format of features for the float network."""

KEYWORDS, MACHINES = (
    ("keyword_spotting", "ds_cnn", "kws_ds_cnn.h5"),
    ("anomaly_detection", "autoencoder", "ad_autoencoder.h5"),
)
WAVS = "ad_wavs.zip"

Network = Callable[[np.ndarray], np.ndarray]


def networks(
    which: tuple[str, str, str], weights: Path, data_dir: Path, folder: Path
) -> tuple[Network, Network, Program]:
    """Return the float network, the program in C on integers, both with values as outputs, and the program."""
    benchmark, model, file = which
    _, spec = load_benchmark(benchmark).network(model)
    network = spec.fold().source
    load_weights(network, weights / file)
    frozen = frozen_network(
        spec, resolve_config(CONFIG, spec), weights / file, data_of(benchmark, data_dir, 0), 0, AUTO_PO2
    )
    program = integer_program(frozen)
    executable, output = compile_c(write_c(program, folder, model), folder), program.outputs[0].tensor

    def in_integers(x: np.ndarray) -> np.ndarray:
        return np.ldexp(executable.run(x)[output].astype(float), program.tensor[output].format.exponent)

    return lambda x: network.predict(x, batch_size=256, verbose=0), in_integers, program


def in_c(features: FixedFeatures, folder: Path, name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return the features of a sound in C, compiled for this machine."""
    source = write_features(features, folder, name)[1]
    library = folder / f"lib{name}.so"
    subprocess.run([COMPILER, *FLAGS, "-shared", "-fPIC", "-o", library, source], check=True, capture_output=True)
    function = ctypes.CDLL(str(library))[f"{name}_run"]
    function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p], None
    kind = np.int8 if features.format.bit_width <= 8 else np.int16

    def run(sound: np.ndarray) -> np.ndarray:
        sound, found = np.ascontiguousarray(sound, np.int16), np.empty((features.frames, features.features), kind)
        function(sound.ctypes.data, len(sound), found.ctypes.data)
        return found

    return run


def features_of(
    name: str, make: Callable[[FixedPointFormat], FixedFeatures], formats: Sequence[FixedPointFormat], sounds: Sequence
) -> tuple[list[np.ndarray], int]:
    """Return the integers of all sounds in each format, and how many of them the C computes otherwise."""
    found, differing = [], 0
    with (
        tempfile.TemporaryDirectory() as folder,
        progress_line(f"features of {name}", len(sounds) * len(formats)) as line,
    ):
        for i, format in enumerate(formats):
            features = make(format)
            run, all_sounds = in_c(features, Path(folder), f"{name}_{i}"), []
            for sound in sounds:
                all_sounds.append(run_features(features, sound))
                differing += int(np.sum(all_sounds[-1] != run(sound)))
                line.advance()
            found.append(np.stack(all_sounds))
    return found, differing


def differences(fixed: np.ndarray, floats: np.ndarray) -> dict[str, Any]:
    """Return how much features of the finer format differ from those in floating point."""
    error = np.abs(np.ldexp(fixed.astype(float), FINE.exponent) - floats)
    return {"largest_difference": round(float(error.max()), 4), "mean_difference": round(float(error.mean()), 6)}


def keywords(weights: Path, data_dir: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield accuracies on the test clips."""
    on_floats, on_integers, program = networks(KEYWORDS, weights, data_dir, folder)
    clips = test_clips(data_dir)
    sounds, format = clips.sound(), program.tensor[program.inputs[0]].format
    floats = np.concatenate([mfcc(sounds[i : i + 256]) for i in range(0, len(sounds), 256)])
    (fine, coarse), differing = features_of("mfcc", fixed_mfcc, (FINE, format), sounds)
    pairs = {
        "float": (on_floats(floats[..., None]), on_floats(np.ldexp(fine[..., None].astype(np.float32), FINE.exponent))),
        CONFIG: (on_integers(quantize_inputs(program, floats[..., None])), on_integers(coarse[..., None])),
    }
    facts = {"sounds": len(sounds), "integers_that_c_computes_otherwise": differing, "score": "accuracy"}
    for network, (given, fixed) in pairs.items():
        scores = [float(np.mean(values.argmax(axis=-1) == clips.labels)) for values in (given, fixed)]
        changed = int(np.sum(given.argmax(axis=-1) != fixed.argmax(axis=-1)))
        yield row_of(KEYWORDS, network, facts | differences(fine, floats), scores, changed)


def test_clips(data_dir: Path) -> LabelledClips:
    """Return the test clips of the subset."""
    with find_archive(data_dir, "keyword_spotting", (SUBSET,), LISTS) as archive:
        clips = clips_by_class(archive.path)
        return clips[np.flatnonzero(parts_of(archive, [clip.name for clip in clips.clips]) == TEST)]


def machines(weights: Path, data_dir: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield mean reconstruction errors of the sound files of each machine type."""
    on_floats, on_integers, program = networks(MACHINES, weights, data_dir, folder)
    format = program.tensor[program.inputs[0]].format
    for machine, sounds in machine_sounds(data_dir / WAVS).items():
        floats = np.stack([log_mel_db(sound / np.float32(2**15)) for sound in sounds])
        (fine, coarse), differing = features_of("log_mel", fixed_log_mel, (FINE, format), sounds)
        given, of_fine = windows(floats), windows(np.ldexp(fine.astype(np.float32), FINE.exponent))
        inputs = quantize_inputs(program, given), windows(coarse)
        pairs = {
            "float": [reconstruction_error(x, on_floats(x)) for x in (given, of_fine)],
            CONFIG: [reconstruction_error(given, on_integers(x)) for x in inputs],
        }
        facts = {"sounds": len(sounds), "integers_that_c_computes_otherwise": differing}
        facts |= {"score": f"mean squared error, {machine}"}
        for network, scores in pairs.items():
            yield row_of(MACHINES, network, facts | differences(fine, floats), scores, None)


def machine_sounds(path: Path) -> dict[str, list[np.ndarray]]:
    """Return the sounds of each machine type as samples of 16 bits, cut to the same length."""
    sounds: dict[str, list[np.ndarray]] = {}
    with ExitStack() as stack:
        for machine, parts in find_recordings(path, stack).items():
            recordings = [recording for part in parts.values() for recording in part]
            sounds[machine] = [
                int16_levels(resampled_mono(*read_sound(archive.read(member), member), SAMPLE_RATE_HZ))
                for archive, member in recordings
            ]
    return sounds


def windows(log_mel: np.ndarray) -> np.ndarray:
    """Return the joined frames of all clips."""
    joined = join_frames(log_mel)
    return np.ascontiguousarray(joined.reshape(-1, joined.shape[-1]))


def reconstruction_error(x: np.ndarray, reconstructed: np.ndarray) -> float:
    """Return the mean squared error."""
    return float(np.mean(np.square(x - reconstructed, dtype=np.float64)))


def row_of(
    which: tuple[str, str, str], network: str, facts: dict[str, Any], scores: Sequence[float], changed: int | None
) -> dict[str, Any]:
    """Return a row: a network on features in floating point and in integers."""
    return {
        "benchmark": which[0],
        "network": network,
        **facts,
        "with_float_features": round(scores[0], 6),
        "with_fixed_features": round(scores[1], 6),
        "decided_otherwise": changed,
    }


def export(weights: Path, data_dir: Path, folder: Path) -> list[Path]:
    """Write the C of both features, in the formats of the programs' inputs."""
    written: list[Path] = []
    for which, make, name in ((KEYWORDS, fixed_mfcc, "mfcc"), (MACHINES, fixed_log_mel, "log_mel")):
        with tempfile.TemporaryDirectory() as temporary:
            program = networks(which, weights, data_dir, Path(temporary))[2]
        written += write_features(make(program.tensor[program.inputs[0]].format), folder, name)
    return written


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.features", description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="folder of MLPerf Tiny's float .h5 files")
    parser.add_argument(
        "--data-dir", type=Path, required=True, help=f"folder of {SUBSET}, {WAVS} and ToyCar's features"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"CSV file, {OUTPUT} by default")
    parser.add_argument("--export", type=Path, help="folder for the C of both features; nothing is measured")
    options = parser.parse_args(arguments)
    with ending_in_words(parser, "stopped"):
        if options.export is not None:
            sys.stdout.write("".join(f"{path}\n" for path in export(options.weights, options.data_dir, options.export)))
            return
        facts = {"commit": project_commit(), "command": command_line("benchmarks.studies.features", arguments)}
        with tempfile.TemporaryDirectory() as folder:
            given = (options.weights, options.data_dir, Path(folder))
            rows = [row | facts for rows in (keywords(*given), machines(*given)) for row in rows]
        write_csv(options.output, rows)
        sys.stdout.write(f"{options.output}\n")


if __name__ == "__main__":
    main()
