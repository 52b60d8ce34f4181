"""Archives and folders of the bundled benchmarks' data: sounds, pictures, features, pickles and annotations."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import tensorflow as tf

from benchmarks.anomaly_detection import features as anomaly_features
from benchmarks.image_classification.data import CLASSES as IMAGE_CLASSES
from benchmarks.keyword_spotting.official import CLASS_FOLDERS
from benchmarks.studies.robustness.archives import Files, npy, write_tar, write_zip
from benchmarks.studies.robustness.cases import Case, InputClass
from benchmarks.visual_wake_words.build import build
from benchmarks.visual_wake_words.coco import CLASSES as PERSON_CLASSES
from po2quant.benchmark import load_benchmark

DATA = "data"
RATE_HZ = 16000


def sound(seconds: float, form: str = "WAV", seed: int = 0) -> bytes:
    """Return a sound file of noise."""
    content = io.BytesIO()
    samples = np.random.default_rng(seed).normal(0.0, 0.1, int(seconds * RATE_HZ))
    soundfile.write(content, samples, RATE_HZ, format=form, subtype="PCM_16")
    return content.getvalue()


def picture(size: int, seed: int = 0) -> bytes:
    """Return a square JPEG."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    return tf.io.encode_jpeg(pixels).numpy()


def _reader(benchmark: str, path: str = DATA):
    def read(folder: Path, words: tuple[str, ...]) -> None:
        load_benchmark(benchmark).load_data(folder / path, 0)

    return read


def _cases(benchmark: str, files: Files, archive: str, pack=write_zip) -> list[Case]:
    """Return data as a folder, and as an archive."""
    folder = {f"{DATA}/{name}": content for name, content in files.items()}
    packed = {f"{DATA}/{archive}": pack(files)}
    return [Case(_reader(benchmark), folder), Case(_reader(benchmark), packed)]


def _picture_cases() -> Sequence[Case]:
    jpegs = {
        f"{part}/{name}/{number}.jpg": picture(32, number)
        for part in ("train", "test")
        for name in IMAGE_CLASSES
        for number in range(2)
    }
    raw = {"y_labels.csv": b"a.bin,10,3\nb.bin,10,0\n", "a.bin": bytes(3072), "b.bin": bytes(3072)}
    pixels = np.random.default_rng(0).integers(0, 256, (20, 3072), np.uint8)
    labels = list(range(10)) * 2
    batches = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    pickles = {f"cifar-10-batches-py/{name}": pickle.dumps({"data": pixels, "labels": labels}, 2) for name in batches}
    rows = np.concatenate([np.array(labels, np.uint8)[:, None], pixels], 1).tobytes()
    binary = {f"cifar-10-batches-bin/{name}.bin": rows for name in batches}
    name = "image_classification"
    return [
        *_cases(name, jpegs, "cifar10_jpeg.zip"),
        *_cases(name, raw, "mlperf_tiny_ic01.zip"),
        *_cases(name, pickles, "cifar-10-python.tar.gz", write_tar),
        *_cases(name, binary, "cifar-10-binary.tar.gz", write_tar),
    ]


def _keyword_cases() -> Sequence[Case]:
    forms = ("WAV", "FLAC")
    clips = {
        f"{name}/{number:x}_nohash_0.{forms[number % 2].lower()}": sound(0.2, forms[number % 2], number)
        for name in CLASS_FOLDERS
        for number in range(2)
    }
    raw = {"y_labels.csv": b"a.bin,12,3\nb.bin,12,0\n", "a.bin": bytes(490), "b.bin": bytes(490)}
    name = "keyword_spotting"
    lists = {
        "validation_list.txt": f"{CLASS_FOLDERS[0]}/0_nohash_0.wav\n".encode(),
        "testing_list.txt": b"".join(f"{word}/1_nohash_0.flac\n".encode() for word in CLASS_FOLDERS),
    }
    return [
        _cases(name, clips, "")[0],
        *_cases(name, clips | lists, "speech_commands_v2_subset.zip"),
        *_cases(name, raw, "mlperf_tiny_kws01.zip"),
    ]


def _anomaly_cases() -> Sequence[Case]:
    seconds = anomaly_features.LEAST_SAMPLES / RATE_HZ
    names = ["normal_id_01_00000000", "normal_id_01_00000001", "anomaly_id_01_00000000"]
    clips = {f"ToyCar/train/{name}.wav": sound(seconds) for name in names[:2]}
    clips |= {f"ToyCar/test/{name}.wav": sound(seconds) for name in names[1:]}
    shape = anomaly_features.FRAMES, anomaly_features.MEL_BANDS
    features = {
        f"ad_toycar_{part}.npz": write_zip(
            {"names.npy": npy(np.array(chosen)), "log_mel_db.npy": npy(np.zeros((len(chosen), *shape), np.float16))}
        )
        for part, chosen in (("train", names[:2]), ("test", names[1:]))
    }
    files = {f"{DATA}/{name}": content for name, content in features.items()}
    name = "anomaly_detection"
    return [*_cases(name, clips, "dev_data_ToyCar.zip"), Case(_reader(name), files), Case(_reader(name), files)]


def _person_cases() -> Sequence[Case]:
    pictures = {
        f"{label}/COCO_train2014_{number:012}.jpg": picture(96, number)
        for index, label in enumerate(PERSON_CLASSES)
        for number in range(12 * index, 12 * index + 12)
    }
    lists = {"test_list.txt": b"".join(f"{name}\n".encode() for name in list(pictures)[::5])}
    name = "visual_wake_words"
    tar = {f"vw_coco2014_96/{name}": content for name, content in pictures.items()}
    return [
        *_cases(name, pictures | lists, "person_96.zip"),
        Case(_reader(name), {f"{DATA}/vw_coco2014_96.tar.gz": write_tar(tar)}),
        Case(
            _reader(name),
            {
                f"{DATA}/coco_person_96/{name}": content
                for name, content in (
                    pictures | {"origin.json": json.dumps({"rule": "mlperf_tiny", "coco_photos": 4}).encode()}
                ).items()
            },
            changing=(f"{DATA}/coco_person_96/origin.json",),
        ),
    ]


def _annotation_cases() -> Sequence[Case]:
    images = [
        {
            "id": number,
            "file_name": f"COCO_train2014_{number:012}.jpg",
            "width": 60,
            "height": 50,
            "license": 1,
            "flickr_url": "u",
        }
        for number in range(12)
    ]
    annotations = [
        {"image_id": number, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 40, 40], "area": 900.0}
        for number in range(6)
    ]
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
        "licenses": [{"id": 1, "name": "free"}],
    }
    file = "coco/annotations/instances_train2014.json"
    files = {f"coco/train2014/{image['file_name']}": picture(50, image["id"]) for image in images}

    def read(folder: Path, words: tuple[str, ...]) -> None:
        build(folder / "coco", folder / "built")

    return [Case(read, files | {file: json.dumps(content).encode()}, changing=(file,) * 12 + tuple(files))]


CLASSES = tuple(
    InputClass(name, cases, batch=1000)
    for name, cases in (
        ("pictures", _picture_cases),
        ("keywords", _keyword_cases),
        ("anomalies", _anomaly_cases),
        ("persons", _person_cases),
        ("annotations", _annotation_cases),
    )
)
