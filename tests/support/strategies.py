"""Hypothesis strategies shared by the tests: weights and activations of every shape and size."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

TENSOR_SETTINGS = settings(max_examples=50, deadline=None)
"""Every example runs TensorFlow eagerly: few examples, and no limit on the time of one."""

KINDS = ("normal", "uniform", "outlier", "zero_channel", "sparse", "powers_of_two")

weight_shapes = st.one_of(
    st.tuples(st.integers(1, 40)),
    st.tuples(st.integers(1, 40), st.integers(1, 6)),
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 8), st.integers(2, 6)),
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 8), st.just(1)),
)
"""Shapes of biases, Dense, Conv2D and DepthwiseConv2D kernels, at most 360 values."""

activation_shapes = st.one_of(
    st.tuples(st.integers(1, 4), st.integers(1, 40)),
    st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(1, 4)),
)
"""Shapes of activations: samples first."""


@st.composite
def tensors(
    draw: st.DrawFn,
    shapes: st.SearchStrategy[tuple[int, ...]] = weight_shapes,
    min_magnitude: float = 1e-6,
    max_magnitude: float = 1e6,
    dtype: type = np.float32,
) -> np.ndarray:
    """Draw random values of one magnitude, perhaps with an outlier, an all-zero channel or many zeros."""
    shape = draw(shapes)
    kind = draw(st.sampled_from(KINDS))
    magnitude = 10.0 ** draw(st.floats(np.log10(min_magnitude), np.log10(max_magnitude)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if kind == "uniform":
        values = rng.uniform(-1.0, 1.0, shape)
    elif kind == "powers_of_two":
        values = rng.choice([-1.0, 1.0], shape) * np.exp2(-rng.integers(0, 6, shape))
        magnitude = 2.0 ** np.round(np.log2(magnitude))
    else:
        values = rng.normal(0.0, 1.0, shape)
    if kind == "outlier":
        values.flat[rng.integers(values.size)] = 30.0
    elif kind == "zero_channel":
        values[..., rng.integers(shape[-1])] = 0.0
    elif kind == "sparse":
        values *= rng.random(shape) < 0.1
    return (values * magnitude).astype(dtype)
