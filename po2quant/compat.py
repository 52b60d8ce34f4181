"""What the project uses of other packages beside their public interface: one place to look when one of them changes."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


def keras_tuner_service() -> tuple[ModuleType, ModuleType]:
    """Return the messages, and the service with its stub, by which a Keras Tuner worker asks its chief for trials.

    They are generated for two versions of protobuf; Keras Tuner chooses.
    """
    from keras_tuner.src import protos

    return protos.get_service(), protos.get_service_grpc()


def build_loss_and_metrics(model: keras.Model, targets: Any) -> None:
    """Make the variables of a compiled model's loss and metrics, which Keras else makes within its first step.

    A step in whose trace variables are made is traced a second time.

    Args:
        model: compiled Sequential or functional model.
        targets: shape and type of a batch of targets, a ``tf.TensorSpec``, or a dictionary by the names of outputs.
    """
    import keras

    predictions = model.output if len(model.outputs) > 1 else model.outputs[0]
    if isinstance(targets, dict) and not isinstance(predictions, dict):
        targets = [targets[name] for name in model.output_names]
    y = keras.tree.map_structure(lambda spec: keras.KerasTensor(tuple(spec.shape), spec.dtype.name), targets)
    for part in (model._compile_loss, model._compile_metrics):
        if part is not None and not part.built:
            part.build(y, predictions)


def loss_weights_of(model: keras.Model) -> Any:
    """Return the weights of the losses of a compiled model; None where it has none."""
    return model._compile_loss._user_loss_weights


def gradient_registry() -> dict[str, Any]:
    """Return TensorFlow's gradients of operations and graphs by name, which may be changed."""
    from tensorflow.python.framework import ops

    return ops.gradient_registry._registry


def application_layers() -> dict[str, type]:
    """Return the layers by name that networks of ``keras.applications`` have and ``keras.layers`` has not."""
    from keras.src.applications.convnext import LayerScale, StochasticDepth
    from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    return {layer.__name__: layer for layer in (CustomScaleLayer, LayerScale, StochasticDepth)}


@contextlib.contextmanager
def without_values() -> Iterator[Callable[[], None]]:
    """Let variables that are made in the block take no memory, and give what makes their initial values.

    Variables that have got none at the end of the block are of no use.
    """
    import keras
    from keras.src.backend.common import global_state
    from keras.src.backend.common.variables import initialize_all_variables

    given = False

    def give() -> None:
        nonlocal given
        given = True

    try:
        with keras.StatelessScope(initialize_variables=False):
            yield give
        if given:
            initialize_all_variables()
    finally:
        global_state.set_global_attribute("uninitialized_variables", [])


def serialize_quantizers_of_activations(kind: type[keras.layers.Layer]) -> None:
    """Let the configuration of a ``qkeras.QActivation`` have its quantizer in serialized form, where it is of a kind.

    QKeras has the quantizer itself there, so that a model and its clone share it.
    """
    import keras
    import qkeras

    get_config = qkeras.QActivation.get_config

    @functools.wraps(get_config)
    def with_serialized_quantizer(layer: qkeras.QActivation) -> dict[str, Any]:
        config = get_config(layer)
        if isinstance(config["activation"], kind):
            config["activation"] = keras.saving.serialize_keras_object(config["activation"])
        return config

    qkeras.QActivation.get_config = with_serialized_quantizer


class TunerOracle:
    """What a search needs of Keras Tuner's Bayesian oracle beside its public interface, to be inherited before it."""

    @property
    def state_file(self: Any) -> Path:
        """Where the state of the oracle is."""
        return Path(self._get_oracle_fname())

    def trial_file(self: Any, trial_id: str) -> Path:
        """Return where the state of a trial is."""
        return Path(self._get_trial_dir(trial_id)) / "trial.json"

    def _save_trial(self: Any, trial: Any) -> None:
        self.save_trial(trial)

    def choices(self: Any) -> list[Any]:
        """Return the hyperparameters that are not fixed, in the order of :meth:`vectors_and_scores`."""
        return self._nonfixed_space()

    def vectors_and_scores(self: Any) -> tuple[Any, Any]:
        """Return what a Gaussian process learns from, scores to be minimised; those of trials that run are guessed."""
        return self._vectorize_trials()

    def random_values(self: Any) -> dict[str, Any] | None:
        """Return values that no trial has had, or None where none were found."""
        return self._random_values()

    def was_tried(self: Any, values: Mapping[str, Any]) -> bool:
        """Return whether a trial has had the values."""
        return self._duplicate(values)

    def remember(self: Any, trial: Any) -> None:
        """Count the values of a trial as tried."""
        self._record_values(trial)


def waiting_trials(oracle: Any) -> list[str]:
    """Return the ids of trials that wait to run again, last first; the list may be changed."""
    return oracle._retry_queue
