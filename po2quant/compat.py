"""What the project uses of other packages beside their public interface: one place to look when one of them changes."""

from __future__ import annotations

from types import ModuleType


def keras_tuner_service() -> tuple[ModuleType, ModuleType]:
    """Return the messages, and the service with its stub, by which a Keras Tuner worker asks its chief for trials.

    They are generated for two versions of protobuf; Keras Tuner chooses.
    """
    from keras_tuner.src import protos

    return protos.get_service(), protos.get_service_grpc()
