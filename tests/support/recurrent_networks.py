"""Small networks of recurrent layers, one of each kind."""

from __future__ import annotations

import keras
from keras import layers
from networks import randomize

STEPS, CHANNELS = 5, 3


def sequence(*following: keras.Layer, seed: int = 0) -> keras.Model:
    """Return a chain of layers over sequences, with random weights."""
    return randomize(keras.Sequential([keras.Input((STEPS, CHANNELS), name="sequence"), *following]), seed)


RECURRENT = {
    "LSTM": lambda: sequence(layers.LSTM(4, name="lstm")),
    "LSTM, all steps, stacked": lambda: sequence(
        layers.LSTM(4, return_sequences=True, go_backwards=True), layers.LSTM(2), layers.Dense(2)
    ),
    "LSTM, other functions": lambda: sequence(
        layers.LSTM(3, activation="relu", recurrent_activation="hard_sigmoid", use_bias=False)
    ),
    "GRU": lambda: sequence(layers.GRU(4, name="gru")),
    "GRU, reset before": lambda: sequence(layers.GRU(3, reset_after=False, return_sequences=True)),
    "GRU, without bias": lambda: sequence(layers.GRU(2, use_bias=False)),
    "GRU, reset before, without bias": lambda: sequence(layers.GRU(2, reset_after=False, use_bias=False)),
    "SimpleRNN": lambda: sequence(layers.SimpleRNN(4, name="rnn")),
    "SimpleRNN, relu": lambda: sequence(layers.SimpleRNN(4, activation="relu", return_sequences=True)),
    "SimpleRNN, linear": lambda: sequence(layers.SimpleRNN(3, activation=None, go_backwards=True)),
    "RNN": lambda: sequence(layers.RNN(layers.GRUCell(3), return_sequences=True)),
    "Bidirectional, concat": lambda: sequence(layers.Bidirectional(layers.LSTM(3, return_sequences=True))),
    "Bidirectional, sum": lambda: sequence(layers.Bidirectional(layers.GRU(3), merge_mode="sum")),
    "Bidirectional, ave": lambda: sequence(layers.Bidirectional(layers.SimpleRNN(3), merge_mode="ave")),
    "Bidirectional, mul": lambda: sequence(
        layers.Bidirectional(layers.SimpleRNN(3, return_sequences=True), merge_mode="mul")
    ),
    "between others": lambda: sequence(
        layers.Conv1D(4, 3, padding="causal", activation="relu"),
        layers.MaxPooling1D(1),
        layers.LSTM(3, return_sequences=True, dropout=0.2, recurrent_dropout=0.2),
        layers.BatchNormalization(),
        layers.GlobalAveragePooling1D(),
        layers.Dense(2, activation="softmax"),
    ),
    "auto-encoder": lambda: sequence(
        layers.LSTM(2),
        layers.RepeatVector(STEPS),
        layers.LSTM(3, return_sequences=True),
        layers.Dense(CHANNELS),
    ),
}
"""Makers of networks by what they show."""
