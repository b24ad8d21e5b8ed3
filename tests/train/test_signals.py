"""Ctrl-C and SIGTERM wait for the end of a chunk, but not for ever."""

import os
import signal

import pytest

from fidle_jax.train.signals import catch_stop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_within_defer_a_signal_is_a_request_and_a_second_one_an_interrupt(number):
    with catch_stop() as stop, stop.defer():
        os.kill(os.getpid(), number)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_outside_defer_a_signal_interrupts_at_once(number):
    with catch_stop() as stop:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        assert not stop.requested


def test_the_handlers_of_before_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with catch_stop():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
