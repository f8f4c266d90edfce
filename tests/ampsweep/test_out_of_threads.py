from __future__ import annotations

import errno
import os

import pytest

from ampsweep.errors import EngineFailed
from ampsweep.out_of_threads import named_thread_failures


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
