from __future__ import annotations

import errno
import os
import threading

import pytest

from ampsweep.errors import EngineFailed, Unavailable
from ampsweep.out_of_threads import named_thread_failures, started_threads


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("can't start new thread"),
        BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)),
        RuntimeError("libgomp: pthread_create failed"),
    ],
)
def test_a_thread_that_cannot_be_started_is_named(error: Exception) -> None:
    message = r"no further thread .* to load atlas; raise the limit .*\(ulimit -u"
    with pytest.raises(EngineFailed, match=message), named_thread_failures("to load atlas"):
        raise error


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(RuntimeError, match=r"^mismatch$"), named_thread_failures("to load atlas"):
        raise RuntimeError("mismatch")


def test_the_kind_of_the_error_can_be_chosen() -> None:
    with (
        pytest.raises(Unavailable, match="to report cells; raise"),
        named_thread_failures("to report cells", Unavailable),
    ):
        raise RuntimeError("can't start new thread")


def test_threads_that_run_already_take_calls_when_no_further_one_can_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with started_threads(3) as executor:
        monkeypatch.setattr(threading.Thread, "start", _fail)
        together = threading.Barrier(3)
        assert sorted(executor.map(lambda _: together.wait(30), range(3))) == [0, 1, 2]


def test_threads_that_cannot_all_be_started_end(monkeypatch: pytest.MonkeyPatch) -> None:
    before, start = set(threading.enumerate()), threading.Thread.start

    def start_two(thread: threading.Thread) -> None:
        if len(set(threading.enumerate()) - before) == 2:
            _fail()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_two)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        started_threads(3)
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()


def _fail(*_: object) -> None:
    raise RuntimeError("can't start new thread")
