"""Results stand between two marks; the rest of a document is somebody's text."""

import pytest

from benchmarks.studies.document import END, begin_mark, table, thousands, write_results


def test_only_what_stands_between_the_marks_changes(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(f"before\n\n{begin_mark('a')}\n\nold\n\n{END}\n\nafter {END}\n", encoding="utf-8")
    write_results(path, "a", ["new", "newer"])
    text = path.read_text(encoding="utf-8")
    assert text == f"before\n\n{begin_mark('a')}\n\nnew\n\nnewer\n\n{END}\n\nafter {END}\n"
    write_results(path, "a", ["new", "newer"])
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("text", ["", begin_mark("a"), END, f"{END}\n{begin_mark('a')}", f"{begin_mark('b')}\n{END}"])
def test_a_document_without_the_marks_is_refused_and_left_alone(text, tmp_path):
    path = tmp_path / "page.md"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="the document must contain"):
        write_results(path, "a", ["new"])
    assert path.read_text(encoding="utf-8") == text


def test_tables_and_numbers():
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert [thousands(number) for number in (7, "1234567")] == ["7", "1 234 567"]
