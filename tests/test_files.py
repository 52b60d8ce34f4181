"""A file is the old or the new one, whatever happens while it is written."""

import errno
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refusal

from po2quant.files import (
    one_line,
    parse_json,
    read_csv,
    read_json,
    replaced_whole,
    require_room,
    write_csv,
    write_json,
)


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


@given(st.text(), st.integers(10, 300))
def test_one_line_is_printable_and_within_its_limit(text, limit):
    line = one_line(text, limit)
    assert line.isprintable() and len(line) <= limit


def test_a_long_line_keeps_its_beginning_and_its_reason():
    line = one_line("file " + "x" * 5000 + " is encrypted")
    assert line.startswith("file x") and "..." in line and line.endswith("is encrypted")


def test_control_characters_are_escaped_and_white_space_collapsed():
    assert one_line("a\n\t b\x00\x1b[2J\u202e\udcff") == r"a b\x00\x1b[2J\u202e\udcff"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("Unable to write (errno = 28, error message = 'No space left on device')"),
        RuntimeError("unable to close file, errno = 28, error message = 'No space left on device'"),
    ],
    ids=["Python", "HDF5", "HDF5 at its end"],
)
def test_a_full_disk_names_the_file_and_leaves_the_old_one(error, tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("old")
    with pytest.raises(OSError, match="No space left on device") as caught, replaced_whole(path):
        raise error
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_room_for_more_than_the_disk_has_is_refused_before_anything_is_written(tmp_path):
    require_room(tmp_path / "a.h5", 1)
    with pytest.raises(OSError, match="No space left on device") as caught:
        require_room(tmp_path / "a.h5", 2**62)
    assert caught.value.filename == str(tmp_path / "a.h5")


def test_a_folder_that_is_gone_is_named_without_the_partial_file(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_csv(tmp_path / "gone" / "rows.csv", [{"a": 1}])
    assert caught.value.filename == str(tmp_path / "gone" / "rows.csv")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a": NaN}', "not finite: NaN"),
        (b'{"a": -Infinity}', "not finite: -Infinity"),
        (b'{"a": 1e400}', "not finite: 1e400"),
        (b'{"a": 1, "a": 2}', "key 'a' appears twice"),
        (b'{"a": 9223372036854775808}', "more than 64 bits: 9223372036854775808"),
        (b'{"a": ' + b"9" * 5000 + b"}", "more than 64 bits: 999"),
        (b'{"a": "\xff"}', "no UTF-8 text, at 7"),
        (b'\xef\xbb\xbf{"a": 1}', "BOM"),
        (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "more than 64 deep"),
        (b'{"a": ' + b"[" * 100_000, "more than 64 deep"),
        (b"[1]", "Received: list"),
        (b"", "Expecting value"),
        (b" " * (16 * 2**20 + 1), "more than 16777216 bytes"),
    ],
)
def test_json_that_readers_understand_differently_or_cannot_hold_is_refused(content, reason, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    message = refusal(read_json, path, "what a run was asked for")
    assert message.startswith(f"{path} must be what a run was asked for") and reason in message


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    assert "no plain file" in refusal(read_json, tmp_path / "config.json", "what a run was asked for")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON_VALUES)
def test_what_is_written_as_json_is_read_as_it_was(data):
    assert parse_json(json.dumps(data)) == data


def test_a_row_that_is_shorter_or_longer_than_the_header_is_refused(tmp_path):
    path = tmp_path / "rows.csv"
    for row in ("1", "1,2,3"):
        path.write_text(f"a,b\n{row}\n")
        assert f"with 2 values in each row, as its header has. Received: {len(row.split(','))}" in refusal(
            read_csv, path
        )


def test_a_text_of_many_characters_is_cut_before_they_are_looked_at():
    class Text(str):
        looked_at = 0

        def __str__(self):
            return self

        def __getitem__(self, part):
            found = str.__getitem__(self, part)
            Text.looked_at += len(found)
            return found

    text = Text("begin" + "[" * 10**7 + "end")
    assert one_line(text, 40).startswith("begin[") and one_line(text, 40).endswith("[end")
    assert 0 < Text.looked_at < 10**4
