"""Networks of integers and powers of two: data, plans, the interpreter; with numpy, without TensorFlow or Keras."""
