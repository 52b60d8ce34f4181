"""JPEG and PNG pictures as numpy arrays; the size that a file declares is checked before it is decoded."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from po2quant.data.archives import Archive
from po2quant.data.budgets import PHOTO_PIXELS, check_at_most
from po2quant.progress import progress_line

COLOURS = 3
_FILES_PER_TASK = 256
_JPEG_START, _PNG_START = b"\xff\xd8", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


def decode_images(archive: Archive, names: Sequence[str], shape: tuple[int, int]) -> np.ndarray:
    """Return pictures of one ``(height, width)`` as uint8 ``(files, height, width, 3)``, in their order."""
    images = np.empty((len(names), *shape, COLOURS), np.uint8)

    def decode(start: int) -> int:
        task = names[start : start + _FILES_PER_TASK]
        for index, name in enumerate(task, start):
            images[index] = _decode_image(archive.read(name), name, shape)
        return len(task)

    with ThreadPoolExecutor() as pool, progress_line("Decoding pictures", len(names)) as line:
        for files in pool.map(decode, range(0, len(names), _FILES_PER_TASK)):
            line.advance(files)
    return images


def _decode_image(data: bytes, name: str, shape: tuple[int, int]) -> np.ndarray:
    declared = declared_size(data, name)
    if declared != shape:
        raise ValueError(f"{name} must have the shape {(*shape, COLOURS)}. Received: {(*declared, COLOURS)}")
    return decode_picture(data, name).numpy()


def resized_picture(data: bytes, name: str, shape: tuple[int, int, int]) -> np.ndarray:
    """Return a picture as uint8 of a shape ``(height, width, 1 or 3)``, in grey or in colours.

    Resizing is bilinear with antialiasing, whatever it does to the proportions.

    Raises:
        ValueError: where it is damaged or declares more than ``PHOTO_PIXELS``.
    """
    height, width = declared_size(data, name)
    check_at_most(name, "pixels", height * width, PHOTO_PIXELS)
    with tf.device("CPU"):
        picture = decode_picture(data, name)
        if shape[2] == 1:
            picture = tf.image.rgb_to_grayscale(picture)
        if (height, width) != shape[:2]:
            small = tf.image.resize(picture, shape[:2], antialias=True)
            picture = tf.cast(tf.clip_by_value(tf.round(small), 0.0, 255.0), tf.uint8)
    return picture.numpy()


def declared_size(data: bytes, name: str) -> tuple[int, int]:
    """Return the height and width that the header of a JPEG or PNG file declares."""
    try:
        if data.startswith(_PNG_START):
            width, height = struct.unpack_from(">II", data, len(_PNG_START))
            return height, width
        if data.startswith(_JPEG_START):
            height, width, _ = tf.io.extract_jpeg_shape(data).numpy().tolist()
            return height, width
    except (tf.errors.InvalidArgumentError, struct.error) as error:
        raise _no_picture(data, name) from error
    raise _no_picture(data, name)


def decode_picture(data: bytes, name: str) -> tf.Tensor:
    """Return a JPEG or PNG file as a uint8 tensor ``(height, width, 3)``."""
    try:
        return tf.io.decode_jpeg(data, channels=COLOURS, dct_method="INTEGER_ACCURATE")
    except tf.errors.OpError as error:
        raise _no_picture(data, name) from error


def _no_picture(data: bytes, name: str) -> ValueError:
    return ValueError(f"{name} must be a complete JPEG. Received: {len(data)} bytes that are none")
