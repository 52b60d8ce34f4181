"""Random changes of pictures, in TensorFlow operations."""

from __future__ import annotations

import math

import tensorflow as tf


def random_affine(
    images: tf.Tensor,
    seed: tf.Tensor,
    rotation_degrees: float = 0.0,
    shift: float = 0.0,
    zoom: float = 0.0,
    flip: bool = True,
) -> tf.Tensor:
    """Return pictures that are randomly mirrored, rotated, shifted and zoomed, each by its own amounts.

    An output pixel p, counted from the centre, is the bilinear value at ``Z R M p + t``: Z zooms each axis, R rotates,
    M mirrors with probability 1/2, t shifts. Places outside have the nearest edge pixel.

    Args:
        images: shape ``(batch, height, width, channels)``, any number type.
        seed: int32 ``(2,)``; the same seed gives the same changes.
        rotation_degrees: largest rotation to either side.
        shift: largest shift to either side, as a share of height and width.
        zoom: largest deviation of the two zoom factors from 1.
        flip: whether pictures are mirrored left to right.

    Returns:
        float32 of the same shape.
    """
    images = tf.cast(images, tf.float32)
    batch, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    uniform = tf.random.stateless_uniform((6, batch), seed, -1.0, 1.0)
    angle = uniform[0] * math.radians(rotation_degrees)
    shift_x, shift_y = uniform[1] * shift * width, uniform[2] * shift * height
    zoom_x, zoom_y = 1.0 + zoom * uniform[3], 1.0 + zoom * uniform[4]
    mirror = tf.where(uniform[5] < 0.0, -1.0, 1.0) if flip else tf.ones((batch,))
    xx, xy = zoom_x * tf.cos(angle) * mirror, -zoom_x * tf.sin(angle)
    yx, yy = zoom_y * tf.sin(angle) * mirror, zoom_y * tf.cos(angle)
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    offset_x = centre_x + shift_x - xx * centre_x - xy * centre_y
    offset_y = centre_y + shift_y - yx * centre_x - yy * centre_y
    perspective = tf.zeros((batch,))
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([xx, xy, offset_x, yx, yy, offset_y, perspective, perspective], axis=1),
        output_shape=tf.constant([height, width]),
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )


def random_erasing(images: tf.Tensor, seed: tf.Tensor, probability: float, smallest: int, largest: int) -> tf.Tensor:
    """Return pictures of which some have a rectangle of zeros, each of its own size at its own place.

    Args:
        images: shape ``(batch, height, width, channels)``, any number type.
        seed: int32 ``(2,)``; the same seed gives the same changes.
        probability: of a picture to have one.
        smallest: least rows and columns of a rectangle, in pixels.
        largest: most of them, at most those of a picture.

    Returns:
        The type and shape of ``images``.

    Reference:
        Zhong et al. 2017, "Random Erasing Data Augmentation", arXiv 1708.04896.
    """
    batch, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    uniform = tf.random.stateless_uniform((5, batch, 1), seed)
    sizes = smallest + tf.floor(uniform[:2] * (largest - smallest + 1))
    begins = tf.floor(uniform[2:4] * (tf.constant([height, width], tf.float32)[:, None, None] - sizes + 1))
    inside = [
        (tf.range(count, dtype=tf.float32) >= begin) & (tf.range(count, dtype=tf.float32) < begin + size)
        for count, begin, size in ((height, begins[0], sizes[0]), (width, begins[1], sizes[1]))
    ]
    is_erased = inside[0][:, :, None] & inside[1][:, None, :] & (uniform[4] < probability)[..., None]
    return tf.where(is_erased[..., None], tf.zeros((), images.dtype), images)
