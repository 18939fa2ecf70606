"""What is being recorded is recorded to its end, whoever takes the signal."""

import signal
import threading
import time

import pytest

from harness.driver import uninterrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("other", [False, True], ids=["to this thread", "to another"])
def test_a_signal_waits_for_the_end_of_the_block(number: signal.Signals, other: bool) -> None:
    def stop(_: int, __: object) -> None:
        raise KeyboardInterrupt

    steps = []
    usual = signal.signal(number, stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            with uninterrupted():
                steps.append("begun")
                if other:
                    thread = threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), number))
                    thread.start()
                    thread.join()
                else:
                    signal.raise_signal(number)
                time.sleep(0.05)
                steps.append("ended")
            steps.append("not reached")
        assert signal.getsignal(number) is stop
    finally:
        signal.signal(number, usual)
    assert steps == ["begun", "ended"]


def test_without_a_signal_nothing_is_raised_and_handlers_are_as_before() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with uninterrupted():
        pass
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
