"""Callbacks of a search that the command line alone names."""

import keras
import pytest

from po2quant.cli.search import check_callback, made_callbacks

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


@pytest.mark.parametrize("name", ["Mine", "a:b:c", "a:b()", "os:system('x')", ""])
def test_a_callback_of_another_form_is_refused_before_anything_is_imported(name):
    with pytest.raises(ValueError, match="--callback must read like"):
        check_callback(name)
