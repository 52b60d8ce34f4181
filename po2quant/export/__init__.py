"""Writers of integer programs: C, ONNX, QONNX, LiteRT; without TensorFlow or Keras."""
