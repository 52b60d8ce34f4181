"""Writers of integer programs: C, ONNX, QONNX, LiteRT; without TensorFlow or Keras."""

from po2quant.callable_package import make_callable

make_callable(__name__)
