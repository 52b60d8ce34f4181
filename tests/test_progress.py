"""Long work says how far it is, also where no terminal shows a bar."""

import pytest

from po2quant import progress
from po2quant.progress import progress_line


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_plain_line_at_most_every_half_minute(clock, capsys):
    with progress_line("training", 90) as line:
        for second in range(90):
            clock[0] = second + 1.0
            line.advance()
            line.update(message=f"loss {second}")
    assert (
        capsys.readouterr().err
        == "training: 30 of 90 loss 28\ntraining: 60 of 90 loss 58\ntraining: 90 of 90 loss 88\n"
    )


def test_work_that_ends_soon_writes_nothing(clock, capsys):
    with progress_line("training", 2) as line:
        line.update(2, "done")
    assert capsys.readouterr().err == ""
