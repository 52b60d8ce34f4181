"""Long work says how far it is, also where no terminal shows a bar."""

import io
import sys

import pytest

from po2quant import log, progress
from po2quant.progress import progress_line


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_work_without_whole_steps_writes_a_line_at_most_every_half_minute(clock, capsys):
    with progress_line("training", 2) as line:
        for second in range(90):
            clock[0] = second + 1.0
            line.advance(0.01)
            line.update(message=f"loss {second}")
    assert (
        capsys.readouterr().err
        == "training: 0.3 of 2, loss 28\ntraining: 0.6 of 2, loss 58\ntraining: 0.9 of 2, loss 88\n"
    )


def test_every_step_is_a_line_but_at_most_one_in_five_seconds(clock, capsys):
    with progress_line("training", 4) as line:
        for epoch, second in enumerate((6.0, 7.0, 13.0, 14.5)):
            clock[0] = second
            line.update(epoch + 1, f"loss {epoch}")
    assert capsys.readouterr().err == "training: 1 of 4, loss 0\ntraining: 3 of 4, loss 2\ntraining: 4 of 4, loss 3\n"


def test_work_that_ends_soon_writes_nothing(clock, capsys):
    with progress_line("training", 2) as line:
        line.update(2, "done")
    assert capsys.readouterr().err == ""


def test_what_is_said_is_kept_whether_it_is_shown_or_not(clock, capsys, tmp_path):
    file = tmp_path / "run.log"
    with log.console(is_quiet=True), log.kept_in(file), progress_line("training", 2) as line:
        clock[0] = 31.0
        line.update(1, "loss 0")
        log.LOG.info("a result", extra=log.RESULT)
    assert capsys.readouterr() == ("a result\n", "")
    assert [entry.split(" INFO ")[1] for entry in file.read_text().splitlines()] == [
        "training: 1 of 2, loss 0",
        "a result",
    ]


def test_a_terminal_has_a_bar_and_the_log_has_lines(clock, monkeypatch, tmp_path):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    with log.kept_in(tmp_path / "run.log"), progress_line("training", 2) as line:
        clock[0] = 31.0
        line.update(1, "loss 0")
    assert "training: 1 of 2" not in terminal.getvalue()
    assert (tmp_path / "run.log").read_text().endswith("training: 1 of 2, loss 0\n")
