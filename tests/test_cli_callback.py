"""Callbacks that the command line alone names, and what trainings tell them."""

import dataclasses

import keras
import pytest
import search_process

from po2quant.cli.callbacks import check_callback, made_callbacks
from po2quant.files import read_csv
from po2quant.training.finetune import require_training_data
from po2quant.training.fit import Monitor, fit

MODULE = """
import keras
class Mine(keras.callbacks.Callback): pass
def no_callback(): return 3
"""


def test_a_callback_comes_from_a_module_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "own_callbacks.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    first, second = (made_callbacks("own_callbacks:Mine")[0] for _ in range(2))
    assert isinstance(first, keras.callbacks.Callback) and first is not second
    assert made_callbacks(None) == []
    with pytest.raises(ValueError, match="must make a Keras callback"):
        made_callbacks("own_callbacks:no_callback")
    with pytest.raises(ValueError, match="must name what can be imported"):
        made_callbacks("own_callbacks:absent")


def test_a_training_tells_its_callbacks_of_every_epoch_and_heeds_their_stop(tmp_path):
    class Heard(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.told = []

        def on_train_begin(self, logs=None):
            self.told.append(("begin", self.params["epochs"], self.params["steps"]))

        def on_train_batch_end(self, batch, logs=None):
            self.told.append("step")

        def on_epoch_end(self, epoch, logs=None):
            self.told.append(("epoch", epoch, "val_loss" in logs))
            self.model.stop_training = epoch == 1

        def on_train_end(self, logs=None):
            self.told.append("end")

    made = []
    task = search_process.experiment(None)
    task = dataclasses.replace(task, callbacks=lambda: [made.append(Heard()) or made[-1]])
    folder = tmp_path / "float"
    fit(
        task.spec.new_network(),
        require_training_data(task.dataset),
        task.recipe,
        Monitor(task.benchmark.selection, callbacks=task.callbacks()),
        folder,
        epochs=5,
    )
    steps = ["step"] * 4
    assert made[0].told == [("begin", 5, 4), *steps, ("epoch", 0, True), *steps, ("epoch", 1, True), "end"]
    assert len(read_csv(folder / "epochs.csv")) == 2


@pytest.mark.parametrize("name", ["Mine", "a:b:c", "a:b()", "os:system('x')", ""])
def test_a_callback_of_another_form_is_refused_before_anything_is_imported(name):
    with pytest.raises(ValueError, match="--callback must read like"):
        check_callback(name)
