"""Keras callbacks that the command line names: code of the user, which no file and no run folder may name."""

from __future__ import annotations

import importlib
import os
import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import keras

CallbackOption = Annotated[
    str | None,
    typer.Option(
        "--callback",
        help="package.module:attribute that makes a Keras callback for each training, e.g. of W&B or MLflow. Workers "
        "on other machines need it on their own command line.",
    ),
]


def check_callback(name: str | None) -> None:
    """Raise ValueError for a callback that is not named as code is."""
    if name is not None and not re.fullmatch(r"[\w.]+:\w+", name):
        raise ValueError(f"--callback must read like package.module:attribute. Received: {name!r}")


def made_callbacks(name: str | None) -> list[keras.callbacks.Callback]:
    """Return the callback that the attribute of a module makes, none where none is named."""
    import keras

    if name is None:
        return []
    module, _, attribute = name.partition(":")
    sys.path.append(os.getcwd())  # after what is installed, which nothing there shall replace
    try:
        made = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        raise ValueError(f"--callback must name what can be imported. Received: {name!r} ({error})") from None
    finally:
        sys.path.pop()
    if not isinstance(made, keras.callbacks.Callback):
        raise ValueError(f"--callback must make a Keras callback. Received: a {type(made).__name__} from {name!r}")
    return [made]
