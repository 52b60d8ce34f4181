"""What a run is on disk: what was asked for, its folder, the names of its files. Knows neither TensorFlow nor Keras."""
