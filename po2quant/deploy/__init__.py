"""The Keras side of deployment: from a frozen power-of-two network to its integer program, and the proof of it."""
