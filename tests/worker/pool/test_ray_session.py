from __future__ import annotations

import pytest
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

from ampsweep.errors import EngineFailed, Unavailable
from worker.pool.ray_session import _as_ampsweep_error, _reason


def test_a_death_is_reported_without_rays_ids_and_guesses() -> None:
    error = RayError(
        "The actor died unexpectedly before finishing this task.\n\tclass_name: RayEngineActor\n\tactor_id: c41ad9\n"
        "\tpid: 29979\n\tnamespace: 83a310d9-8af9\n\tip: 127.0.0.1\nThe actor is dead because its worker process has "
        "died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits with a connection error "
        "code 2. End of file. Some common causes include: (1) the process was killed by the OOM killer due to high "
        "memory usage, (2) ray stop --force was called, or (3) the worker has crashed."
    )
    assert _reason(error) == (
        "The actor died unexpectedly before finishing this task. pid: 29979 ip: 127.0.0.1 The actor is dead because "
        "its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits "
        "with a connection error code 2. End of file. It was probably killed because memory ran out: choose --dtype "
        "bfloat16, offer fewer models or engines, or give the machine more memory."
    )


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("Memory on the node was 31.2GB / 32GB; the task was killed"),
        RayActorError(error_msg="The actor died: worker killed due to the node running low on memory."),
        RayActorError(error_msg="The worker was killed by signal SIGKILL."),
    ],
)
def test_a_process_that_was_killed_probably_ran_out_of_memory(error: RayError) -> None:
    failure = _as_ampsweep_error(error)
    assert isinstance(failure, EngineFailed)
    assert failure.message.startswith("the engine's process died: ")
    assert "probably killed because memory ran out: choose --dtype bfloat16" in failure.message


def test_another_death_is_not_blamed_on_memory() -> None:
    assert "memory" not in _reason(RayActorError(error_msg="The actor is dead because its owner has died."))


def test_a_node_with_other_packages_of_the_same_names_is_named_by_its_paths() -> None:
    message = (
        "package 'jobs' is imported from /home/ann/jobs.py instead of /opt/ampsweep/jobs; rename /home/ann/jobs.py"
    )
    error = RayActorError(
        error_msg="The actor died unexpectedly before finishing this task. Worker exit detail: Failed to execute the "
        "setup hook method, ampsweep.own_packages.require_own_packages from ``ray.init(...)``. For more details, see "
        "the error trace below.\nTraceback (most recent call last):\n  raise InvalidRequest(...)\n"
        f"ampsweep.errors.InvalidRequest: {message}\n\nThe actor never ran - it was cancelled before it started."
    )
    assert _reason(error) == message


@pytest.mark.parametrize(
    ("reason", "kind", "message"),
    [
        ("can't start new thread", Unavailable, "no further thread or process can be started in the engine's process"),
        ("mismatch", EngineFailed, "unhandled RuntimeError in the engine's process"),
    ],
)
def test_a_thread_that_cannot_be_started_does_not_fail_the_engine(
    reason: str, kind: type[Exception], message: str
) -> None:
    failure = _as_ampsweep_error(RayTaskError("tokenize", "the traceback", RuntimeError(reason)))
    assert type(failure) is kind
    assert message in failure.message
