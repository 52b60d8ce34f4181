"""The classes and functions that the description of a Keras model may name, and what Keras 3 calls their arguments."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import qkeras
from keras import layers

from po2quant import quantizers
from po2quant.compat import application_layers
from po2quant.files import one_line
from po2quant.network.kinds import KINDS

OWN_PACKAGE = "po2quant"
KERAS_PACKAGES = ("keras", "tf_keras", "tensorflow", "tensorflow_core", "builtins")
"""Where the classes of Keras come from by what a description says; functions come from ``builtins``."""

OPERATION_MODULES = "keras.src.ops."
"""Where Keras 3 has the classes of ``x + y`` and of ``keras.ops``, some of which are called like layers."""

QKERAS_CLASSES = (qkeras.QActivation, qkeras.Clip, *(kind.kernel.quantized for kind in KINDS if kind.kernel))
"""What quantized networks of ours have of QKeras."""

RUNS_CODE = {
    "Lambda": "write what it computes with Keras layers, or compute it before the network",
    "TFOpLambda": "replace the operator by a Keras layer, e.g. keras.layers.Add for x + y, and save the model again",
    "SlicingOpLambda": "replace the slice by keras.layers.Cropping2D or Permute, and save the model again",
    "TFSMLayer": "load the original Keras model where it was made, and save it as .keras",
    "JaxLayer": "write what it computes with Keras layers",
    "FlaxLayer": "write what it computes with Keras layers",
    "TorchModuleWrapper": "write what it computes with Keras layers",
    "StringLookup": "turn texts into numbers before the network",
    "IntegerLookup": "turn categories into numbers before the network",
    "TextVectorization": "turn texts into numbers before the network",
}
"""Layers that run code or read files which their description names, and what to do instead."""

FORMER_CLASSES = {
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "GRUV2": "GRU",
    "LSTMV2": "LSTM",
}
FORMER_ARGUMENTS = {(layers.LeakyReLU, "alpha"): "negative_slope"}
FORMER_DEFAULTS: Mapping[type, dict[str, Any]] = {layers.GRU: {"reset_after": False}}
"""What Keras 2 called otherwise, and what it meant where it wrote nothing."""

IGNORED_IN_KERAS_2: Mapping[str, tuple[Any, ...]] = {
    "groups": (1,),
    "time_major": (False,),
    "implementation": (0, 1, 2),
    "renorm": (False,),
    "renorm_clipping": (None,),
    "renorm_momentum": (0.99,),
    "fused": (None, True, False),
    "virtual_batch_size": (None,),
    "adjustment": (None,),
    "ragged": (False,),
    "sparse": (False,),
    "optional": (False,),
    "input_length": (None,),
    "batch_size": (None,),
    "experimental_run_tf_function": (True, False),
    "zero_output_for_mask": (False,),
    "softmax_robust_masking": (False,),
}
"""Arguments that Keras 3 no longer has, with the values that mean nothing."""

WITHOUT_MEANING = frozenset(("kernel_regularizer", "kernel_constraint", "query_shape", "key_shape", "value_shape"))
"""What Keras 2 wrote for depthwise and separable convolutions, which have no such kernel, and for attention."""

FLOAT_POLICIES = ("float16", "bfloat16", "float32", "mixed_float16", "mixed_bfloat16")
"""Kinds of numbers that become float32, so that weights are read and folded without loss."""

NO_ACTIVATIONS = ("get", "serialize", "deserialize")


def find_class(description: Mapping[str, Any]) -> type | None:
    """Return the class that the description of an object means, or None where it is none of the known ones."""
    name = str(description["class_name"])
    known = operations() if _is_operation(description) else classes()
    cls = known.get(FORMER_CLASSES.get(name, name))
    return cls if cls is not None and _is_meant(description, cls) else None


def _is_operation(description: Mapping[str, Any]) -> bool:
    """Return whether an operator is meant; an ``.h5`` file names no modules, but only layers can be trainable there."""
    module, inner = description.get("module"), description.get("config")
    if module is None and isinstance(inner, dict):
        return str(description["class_name"]) in operations() and "trainable" not in inner
    return str(module).startswith(OPERATION_MODULES)


def _is_meant(description: Mapping[str, Any], cls: type) -> bool:
    """Return whether a class comes from where the description says, not from a stranger who called his own alike."""
    registered, module = description.get("registered_name"), description.get("module")
    if isinstance(registered, str) and ">" in registered and registered.split(">")[0] not in (*KERAS_PACKAGES, "Keras"):
        return registered == keras.saving.get_registered_name(cls)
    package = cls.__module__.split(".")[0]
    known = KERAS_PACKAGES if package == "keras" else (package,)
    return module is None or str(module).split(".")[0] in known


def is_function(name: Any) -> bool:
    """Return whether a name is that of an activation function of Keras."""
    if not isinstance(name, str) or name.startswith("_") or name in NO_ACTIVATIONS:
        return False
    return inspect.isfunction(getattr(keras.activations, name, None))


@functools.cache
def classes() -> dict[str, type]:
    """Return the classes that a description may name, by name; of two, Keras' own layer comes first."""
    own = {name: cls for name, cls in vars(quantizers).items() if name in quantizers.__all__}
    registered = keras.saving.get_custom_objects().items()
    own |= {name.split(">")[1]: cls for name, cls in registered if name.startswith(f"{OWN_PACKAGE}>")}
    found: dict[str, type] = {}
    for names, bases in (
        (vars(layers), (keras.Layer,)),
        (application_layers(), (keras.Layer,)),
        (vars(keras.regularizers), (keras.regularizers.Regularizer,)),
        (vars(keras.constraints), (keras.constraints.Constraint,)),
        (vars(keras.dtype_policies), (keras.dtype_policies.DTypePolicy,)),
        ({"SeedGenerator": keras.random.SeedGenerator}, (object,)),
        (own, (keras.Layer,)),
        ({cls.__name__: cls for cls in QKERAS_CLASSES}, (object,)),
    ):
        found = dict(_classes_among(names, bases)) | found
    return found


@functools.cache
def operations() -> dict[str, type]:
    """Return the classes of operators and of ``keras.ops``, by name."""
    modules = (importlib.import_module(OPERATION_MODULES + name) for name in ("core", "nn", "numpy", "math", "image"))
    return {name: cls for module in modules for name, cls in _classes_among(vars(module), (keras.Operation,))}


def _classes_among(names: Mapping[str, Any], bases: tuple[type, ...]) -> Iterator[tuple[str, type]]:
    for name, cls in names.items():
        if inspect.isclass(cls) and issubclass(cls, bases) and not name.startswith("_"):
            yield name, cls


def is_keras_layer(cls: type) -> bool:
    """Return whether a class is a layer that Keras itself has."""
    return issubclass(cls, keras.Layer) and cls.__module__.startswith("keras.")


def modernise(config: dict[str, Any], cls: type, is_keras_2: bool) -> str | None:
    """Bring the arguments of a layer to those of Keras 3, in place.

    Args:
        config: the arguments by name, classes known already.
        cls: the layer's class.
        is_keras_2: whether Keras 2 described it.

    Returns:
        what cannot be brought, and what to do; None for nothing.
    """
    for argument in [name for name in config if name.endswith("activation") and isinstance(config[name], str)]:
        if obstacle := _wrong_function(config[argument], cls, is_keras_2):
            return obstacle
    if cls in QKERAS_CLASSES:
        return _wrong_quantizer(config, cls)
    if not is_keras_layer(cls):
        return None
    if is_keras_2:
        _rename_arguments(config, cls)
    if "dtype" in config and (obstacle := _settle_dtype(config)):
        return obstacle
    for argument in [name for name in config if name not in _arguments(cls)]:
        value = config[argument]
        if argument in WITHOUT_MEANING or value in IGNORED_IN_KERAS_2.get(argument, ()):
            del config[argument]
        elif is_keras_2:  # of its own arguments Keras 3 is the judge
            return f"has {argument}={one_line(repr(value), 60)}, which Keras 3 does not know: build it without"
    return None


def _wrong_function(name: str, cls: type, is_keras_2: bool) -> str | None:
    if cls in QKERAS_CLASSES and name != "linear":  # QKeras evaluates other texts
        return f"has the activation {one_line(name, 60)!r}: put it into a layer of its own"
    if not is_function(name):
        return f"uses the function {one_line(name, 60)!r}, which Keras does not have: use one of keras.activations"
    if name == "hard_sigmoid" and is_keras_2:
        return "uses Keras 2's hard_sigmoid, 0.2 * x + 0.5, which is x / 6 + 0.5 in Keras 3: train with another one"
    return None


def _wrong_quantizer(config: Mapping[str, Any], cls: type) -> str | None:
    """Return why a layer of QKeras is none of ours: QKeras would evaluate a text and look a name up by itself."""
    for argument, value in config.items():
        is_quantizer = argument.endswith("_quantizer") or (cls is qkeras.QActivation and argument == "activation")
        is_ours = value is None or (
            isinstance(value, dict) and str(value.get("registered_name")).startswith(f"{OWN_PACKAGE}>")
        )
        if is_quantizer and not is_ours:
            return f"has the quantizer {one_line(repr(value), 60)} of QKeras: load the float network, and quantize that"
    return None


def _rename_arguments(config: dict[str, Any], cls: type) -> None:
    if "batch_input_shape" in config:
        shape = config.pop("batch_input_shape")
        is_input = cls is layers.InputLayer
        config["batch_shape" if is_input else "input_shape"] = (
            shape[1:] if isinstance(shape, list) and not is_input else shape
        )
    if isinstance(config.get("axis"), list) and len(config["axis"]) == 1 and cls is layers.BatchNormalization:
        config["axis"] = config["axis"][0]
    for (owner, former), argument in FORMER_ARGUMENTS.items():
        if cls is owner and former in config:
            config[argument] = config.pop(former)
    for argument, value in FORMER_DEFAULTS.get(cls, {}).items():
        config.setdefault(argument, value)


def _settle_dtype(config: dict[str, Any]) -> str | None:
    """Make float32 of what computes in less."""
    dtype = config["dtype"]
    inner = dtype.get("config") if isinstance(dtype, dict) else None
    name = inner.get("name") if isinstance(inner, dict) else dtype
    if name in FLOAT_POLICIES or name is None:
        config["dtype"] = "float32"
    elif not isinstance(dtype, str):
        return f"computes in {one_line(repr(name), 60)}: load the float network, and quantize that"
    return None


@functools.cache
def _arguments(cls: type) -> frozenset[str]:
    """Return the names of all arguments that a layer's class, or one that it derives from, takes by name."""
    initializers = (vars(base).get("__init__") for base in cls.__mro__ if base is not object)
    signatures = (inspect.signature(initializer) for initializer in initializers if initializer is not None)
    return frozenset(name for signature in signatures for name in signature.parameters) | {"input_shape", "batch_shape"}
