"""Mixed-precision, power-of-two quantization of Keras networks for edge devices."""

__version__ = "0.1.0"
