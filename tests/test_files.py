"""A file is the old or the new one, whatever happens while it is written."""

import json

import pytest

from po2quant.files import read_csv, write_csv, write_json


def test_an_unwritable_row_leaves_the_old_file(tmp_path):
    path = tmp_path / "rows.csv"
    write_csv(path, [{"epoch": 1, "loss": 0.5}])

    class Unprintable:
        def __str__(self):
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        write_csv(path, [{"epoch": 1}, {"epoch": Unprintable()}])
    assert read_csv(path) == [{"epoch": "1", "loss": "0.5"}]


def test_json_is_replaced_whole(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_a_missing_table_is_an_error_unless_said_otherwise(tmp_path):
    assert read_csv(tmp_path / "rows.csv", missing_ok=True) == []
    with pytest.raises(FileNotFoundError):
        read_csv(tmp_path / "rows.csv")
