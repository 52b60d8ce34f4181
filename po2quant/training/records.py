"""What a training leaves in its run folder, and takes up there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import keras

from po2quant.bit_config import BitConfig
from po2quant.files import replaced_whole
from po2quant.runs.names import BEST_CONFIG, BEST_WEIGHTS, CHECKPOINT, LAYERS_FOLDER, MODEL_FILE, STAGES_FOLDER
from po2quant.training.fit import save_weights

if TYPE_CHECKING:
    from po2quant.training.finetune import Experiment


def begin_in(folder: Path, experiment: Experiment, config: BitConfig) -> bool:
    """Write the configuration of a run into its folder, which loses what it holds of another configuration.

    Returns:
        whether it had the same one.
    """
    file = folder / BEST_CONFIG
    is_same = file.exists() and experiment.completed(BitConfig.load(file)).layers == config.layers
    if not is_same:
        (folder / CHECKPOINT).unlink(missing_ok=True)
        for name in (STAGES_FOLDER, LAYERS_FOLDER):
            shutil.rmtree(folder / name, ignore_errors=True)
    save_config(config, experiment, folder)
    return is_same


def save_network(model: keras.Model, folder: Path) -> None:
    """Write the weights of a run's network, and the network with its architecture."""
    save_weights(model, folder / BEST_WEIGHTS)
    with replaced_whole(folder / MODEL_FILE) as temporary:
        model.save(temporary)


def save_config(config: BitConfig, experiment: Experiment, folder: Path) -> None:
    """Write the configuration of a run's network, without what the run says of all layers."""
    config.without_alpha(experiment.alpha).without_calibration(experiment.calibration).save(folder / BEST_CONFIG)
