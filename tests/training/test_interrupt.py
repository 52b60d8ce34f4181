"""Ctrl-C: it ends a block even where the first one is swallowed, and nothing comes after the block."""

import contextlib
import signal
import time

import pytest

from po2quant.training.interrupt import insistent_interrupt


def test_a_swallowed_interrupt_comes_again():
    with pytest.raises(KeyboardInterrupt), insistent_interrupt(repeat_seconds=0.05):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        time.sleep(10)
        pytest.fail("the interrupt was lost")


def test_nothing_is_left_after_the_block():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)
    with pytest.raises(KeyboardInterrupt), insistent_interrupt(repeat_seconds=0.05):
        signal.raise_signal(signal.SIGINT)
    time.sleep(0.2)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)) == before
