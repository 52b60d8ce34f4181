"""Diagnostics: what training and quantization do to every kernel, bias and activation."""
