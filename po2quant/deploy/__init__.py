"""From a frozen power-of-two network to a program of integers and shifts, without TensorFlow or Keras at run time."""
