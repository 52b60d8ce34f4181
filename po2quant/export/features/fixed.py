"""Features of sound in integers: window, Fourier transform, mel bands, logarithm, cosine transform.

Every step is an integer operation with a stated rounding, so that the C of :mod:`po2quant.export.features.to_c`
computes the same bits. Sums are bounded for any input: 32 bits hold the transform, 64 its squares and the bands.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from po2quant.fixed_point import HALF_EVEN, FixedPointFormat, shift_right

SAMPLE_BITS = 15
"""Bits of a sample beside its sign."""

WINDOW_BITS, TWIDDLE_BITS, LOG_BITS, LOG_STEPS_BITS = 15, 30, 16, 7
SPECTRUM_BITS = 30
"""Bits of a component of the spectrum beside its sign, at most."""

OFFSET_BITS = 24
"""Fraction bits of the number that is added before the logarithm."""


@dataclasses.dataclass(frozen=True, eq=False)
class FixedFeatures:
    """Features of frames of a sound.

    ``y[t] = quantize(matrix @ ln(bands @ |rfft(window * sound[start + t * step :])| ** power + offset))``. Division
    of a sound by its peak is one subtraction of logarithms.

    Args:
        window: ``(samples,)``, 0 to 1.
        fft_samples: points of the transform, a power of two, no fewer than the window's.
        step: samples from a frame to the next.
        start: first sample of the first frame; negative: that many zeros come first.
        frames: how many there are; zeros follow the sound.
        bands: ``(bands, fft_samples / 2 + 1)``, 0 or more: what each takes of the spectrum of a sound of full scale 1,
            or of peak 1.
        power: 1: of magnitudes; 2: of their squares.
        of_peak: whether the sound is divided by its largest sample first.
        offset: added before the logarithm.
        matrix: ``(features, bands)``, applied to natural logarithms; one number: all bands times it.
        format: of the output.

    Raises:
        ValueError: for a transform that is no power of two or shorter than the window, another power, or a format that
            is not rounded half to even or is finer than the logarithms.

    Example:
        >>> import numpy as np
        >>> bands = np.ones((1, 9))
        >>> loud = FixedFeatures(np.ones(16), 16, 16, 0, 1, bands, 1, False, 1e-6, 1.0, FixedPointFormat(8, -4))
        >>> run_features(loud, np.full(16, 16384, np.int16))  # ln(16 * 0.5 + 1e-6) = 2.079, 33 sixteenths
        array([[33]])
    """

    window: np.ndarray
    fft_samples: int
    step: int
    start: int
    frames: int
    bands: np.ndarray
    power: int
    of_peak: bool
    offset: float
    matrix: np.ndarray | float
    format: FixedPointFormat

    def __post_init__(self) -> None:
        is_power = self.fft_samples >= 4 and self.fft_samples & (self.fft_samples - 1) == 0
        if not is_power or self.fft_samples < len(self.window):
            raise ValueError(
                f"fft_samples must be a power of two, 4 or more, and hold the window of {len(self.window)} samples. "
                f"Received: {self.fft_samples}"
            )
        if self.power not in (1, 2):
            raise ValueError(f"power must be 1 or 2. Received: {self.power}")
        if self.format.rounding != HALF_EVEN:
            raise ValueError(f"format must round {HALF_EVEN}. Received: {self.format.rounding}")
        if self.output_shift < 1:
            raise ValueError(
                f"format must have an exponent of {1 - self.output_shift + self.format.exponent} or more. "
                f"Received: {self.format.exponent}"
            )

    @property
    def window_integers(self) -> np.ndarray:
        """The window in 2**-15."""
        return np.rint(np.ldexp(self.window, WINDOW_BITS)).astype(np.int64)

    @property
    def frame_shift(self) -> int:
        """Right shift of windowed samples, after which no sum of them takes more than :data:`SPECTRUM_BITS`.

        Frames of smaller samples are shifted by less, and keep their low bits.
        """
        largest = int(self.window_integers.sum()) << SAMPLE_BITS
        return max(largest.bit_length() + 1 - SPECTRUM_BITS, 0)

    @property
    def power_shift(self) -> int:
        """Right shift of squares, so that 64 bits hold their sums."""
        return SPECTRUM_BITS // 2 - 1 if self.power == 2 else 0

    @property
    def band_bits(self) -> int:
        """Fraction bits of the bands' weights: the largest weight takes 15 bits."""
        return 15 - math.ceil(math.log2(self.bands.max()))

    @property
    def band_integers(self) -> np.ndarray:
        """The bands in ``2 ** -band_bits``."""
        return np.rint(np.ldexp(self.bands, self.band_bits)).astype(np.int64)

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """The first bin of each band and the end of its bins; of a band without any, 0 and 0."""
        bins = [np.flatnonzero(band) for band in self.band_integers]
        return [(int(held[0]), int(held[-1]) + 1) if held.size else (0, 0) for held in bins]

    @property
    def sum_bits(self) -> int:
        """Fraction bits of a band's sum, for a sound of whole samples."""
        spectrum_bits = WINDOW_BITS - self.frame_shift + 1
        return self.power * spectrum_bits - self.power_shift + self.band_bits

    @property
    def scale_bits(self) -> int:
        """Places that a sound of full scale 1 lies below one of whole samples, in a band's sum."""
        return 0 if self.of_peak else SAMPLE_BITS * self.power

    @property
    def offset_integer(self) -> int:
        """What is added to a band's sum, in 2**-24; where sounds are divided by their peak, for a peak of 1."""
        return round(math.ldexp(self.offset, self.sum_bits + self.scale_bits + OFFSET_BITS))

    @property
    def matrix_bits(self) -> int:
        """Fraction bits of the matrix for logarithms to base 2: its largest number takes 15 bits."""
        return 15 - math.ceil(math.log2(float(np.abs(self.matrix).max()) * math.log(2.0)))

    @property
    def matrix_integers(self) -> np.ndarray:
        """The matrix in ``2 ** -matrix_bits``, for logarithms to base 2."""
        return np.rint(np.ldexp(np.asarray(self.matrix) * math.log(2.0), self.matrix_bits)).astype(np.int64)

    @property
    def output_shift(self) -> int:
        """Right shift of the matrix' sums."""
        return LOG_BITS + self.matrix_bits + self.format.exponent

    @property
    def features(self) -> int:
        """Numbers of a frame."""
        return len(self.bands) if np.ndim(self.matrix) == 0 else len(np.asarray(self.matrix))


def run_features(features: FixedFeatures, sound: np.ndarray) -> np.ndarray:
    """Return the features of a sound, int64 ``(frames, features)``, integers of ``features.format``.

    Args:
        features: which.
        sound: int16 ``(samples,)``.
    """
    sound = np.asarray(sound, np.int64)
    peak = max(int(sound.max(initial=0)), 1) if features.of_peak else 1
    squares, places = squared_spectrum(features, sound)
    spectrum = integer_roots(squares) if features.power == 1 else _rounded(squares, features.power_shift)
    sums = np.stack(
        [
            spectrum[:, first:end] @ band[first:end].astype(np.uint64)
            for band, (first, end) in zip(features.band_integers, features.ranges, strict=True)
        ],
        axis=1,
    )
    places = features.power * places[:, None]
    offsets = np.maximum((features.offset_integer * peak << places) >> OFFSET_BITS, 1)
    logs = integer_log2(sums + offsets.astype(np.uint64))
    logs -= (features.sum_bits + features.scale_bits + places) << LOG_BITS
    if features.of_peak:
        logs -= integer_log2(np.array([peak], np.uint64))[0]
    matrix = features.matrix_integers
    totals = logs * matrix if matrix.ndim == 0 else logs @ matrix.T
    return np.clip(
        shift_right(totals, features.output_shift, HALF_EVEN), features.format.min_int, features.format.max_int
    )


def _rounded(values: np.ndarray, shift: int) -> np.ndarray:
    return (values + np.uint64(1 << shift >> 1)) >> np.uint64(shift)


def squared_spectrum(features: FixedFeatures, sound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the squared magnitude of twice the spectrum of each frame, and how many places it was shifted up.

    Args:
        features: which.
        sound: int64 ``(samples,)``.

    Returns:
        uint64 ``(frames, bins)`` and int64 ``(frames,)``.
    """
    length, half = len(features.window), features.fft_samples // 2
    starts = features.start + features.step * np.arange(features.frames)
    places = starts[:, None] + np.arange(length)
    inside = (places >= 0) & (places < len(sound))
    samples = np.where(inside, sound[np.clip(places, 0, len(sound) - 1)], 0)
    framed = np.zeros((features.frames, features.fft_samples), np.int64)
    sample_bits = np.frexp(np.maximum(np.abs(samples).max(axis=1), 1))[1].astype(np.int64)
    places = np.clip(SAMPLE_BITS - sample_bits, 0, features.frame_shift)
    shift = (features.frame_shift - places)[:, None]
    framed[:, :length] = (samples * features.window_integers + (1 << shift >> 1)) >> shift
    real, imaginary = transform(framed[:, ::2], framed[:, 1::2])
    k = np.arange(half + 1)
    near, far = k % half, -k % half
    cosine, sine = twiddles(features.fft_samples, half + 1)
    even = real[:, near] + real[:, far], imaginary[:, near] - imaginary[:, far]
    odd = real[:, near] - real[:, far], imaginary[:, near] + imaginary[:, far]
    turned = product(*odd, cosine, sine)
    total = even[0] + turned[1], even[1] - turned[0]
    return (total[0] * total[0] + total[1] * total[1]).astype(np.uint64), places


def twiddles(points: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the cosine and minus the sine of the first angles of a circle of some points, in 2**-30."""
    angles = 2.0 * np.pi * np.arange(count) / points
    cosine, sine = np.ldexp(np.cos(angles), TWIDDLE_BITS), np.ldexp(-np.sin(angles), TWIDDLE_BITS)
    return np.rint(cosine).astype(np.int64), np.rint(sine).astype(np.int64)


def product(real: np.ndarray, imaginary: np.ndarray, cosine: np.ndarray, sine: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return complex products with twiddles, each part rounded half up once."""
    half = 1 << (TWIDDLE_BITS - 1)
    return (
        (real * cosine - imaginary * sine + half) >> TWIDDLE_BITS,
        (real * sine + imaginary * cosine + half) >> TWIDDLE_BITS,
    )


def transform(real: np.ndarray, imaginary: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the Fourier transform along the last axis, whose length is a power of two, by decimation in time."""
    points = real.shape[-1]
    order = bit_reversed(points)
    real, imaginary = real[:, order].copy(), imaginary[:, order].copy()
    size = 1
    while size < points:
        cosine, sine = twiddles(2 * size, size)
        pairs = [part.reshape(len(part), -1, 2, size) for part in (real, imaginary)]
        turned = product(pairs[0][:, :, 1], pairs[1][:, :, 1], cosine, sine)
        for part, change in zip(pairs, turned, strict=True):
            first = part[:, :, 0].copy()
            part[:, :, 0], part[:, :, 1] = first + change, first - change
        size *= 2
    return real, imaginary


def bit_reversed(points: int) -> np.ndarray:
    """Return the numbers below a power of two with their bits in reverse order."""
    order = np.zeros(1, np.int64)
    while len(order) < points:
        order = np.concatenate([2 * order, 2 * order + 1])
    return order


def integer_roots(squares: np.ndarray) -> np.ndarray:
    """Return the square roots of integers below 2**62, rounded down, uint64."""
    roots = np.sqrt(squares.astype(np.float64)).astype(np.uint64)
    roots -= roots * roots > squares
    return roots + ((roots + np.uint64(1)) ** 2 <= squares)


def log_table() -> np.ndarray:
    """Return ``log2(1 + i / 128)`` in 2**-16, for i from 0 to 128."""
    return np.rint(np.ldexp(np.log2(1.0 + np.arange(2**LOG_STEPS_BITS + 1) / 2**LOG_STEPS_BITS), LOG_BITS)).astype(
        np.int64
    )


def integer_log2(values: np.ndarray) -> np.ndarray:
    """Return the logarithm to base 2 of integers of 1 or more, uint64, in 2**-16: between table entries, a line."""
    exponents = np.array([int(value).bit_length() - 1 for value in values.ravel()], np.int64).reshape(values.shape)
    mantissas = values << (63 - exponents).astype(np.uint64)
    places = ((mantissas >> np.uint64(63 - LOG_STEPS_BITS)) & np.uint64(2**LOG_STEPS_BITS - 1)).astype(np.int64)
    rest = ((mantissas >> np.uint64(63 - LOG_STEPS_BITS - 16)) & np.uint64(0xFFFF)).astype(np.int64)
    table = log_table()
    steps = table[places + 1] - table[places]
    return (exponents << LOG_BITS) + table[places] + ((steps * rest + 0x8000) >> 16)
