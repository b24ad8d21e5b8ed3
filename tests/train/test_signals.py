"""Tests that Ctrl-C and SIGTERM wait for the end of a chunk, but a second one does not."""

import os
import signal

import pytest

from fidle_jax.train import signals
from fidle_jax.train.signals import catch_stop

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP]


@pytest.fixture(autouse=True)
def hangup():
    """Handle SIGHUP as in a terminal, also if the tests run under nohup, which ignores it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_deferred_signal_is_a_request_and_a_second_one_of_a_person_interrupts(
    number, monkeypatch
):
    with catch_stop() as stop, stop.defer():
        os.kill(os.getpid(), number)
        assert stop.requested
        monkeypatch.setattr(signals, "REPEAT_SECONDS", 0)
        for again in (signal.SIGUSR1, signal.SIGUSR2):
            os.kill(os.getpid(), again)
        for again in (signal.SIGINT, signal.SIGTERM):
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), again)


def test_signals_within_a_second_count_as_one():
    with catch_stop() as stop, stop.defer():
        for number in NUMBERS:
            os.kill(os.getpid(), number)
        assert stop.requested
    with catch_stop():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR2)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_that_is_not_deferred_interrupts(number):
    with catch_stop() as stop:
        stop.check()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        # If the exception was swallowed, `check` raises it again.
        with pytest.raises(KeyboardInterrupt):
            stop.check()


def test_the_previous_handlers_are_restored():
    before = signal.getsignal(signal.SIGTERM)
    with catch_stop():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_under_nohup_goes_on_after_a_hangup():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with catch_stop() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.requested
