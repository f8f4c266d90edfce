from __future__ import annotations

from ray.exceptions import RayError

from worker.ray_host import _reason


def test_a_death_is_told_without_rays_ids_and_guesses() -> None:
    said = RayError(
        "The actor died unexpectedly before finishing this task.\n\tclass_name: RayEngineHost\n\tactor_id: c41ad9\n"
        "\tpid: 29979\n\tnamespace: 83a310d9-8af9\n\tip: 127.0.0.1\nThe actor is dead because its worker process has "
        "died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits with a connection error "
        "code 2. End of file. Some common causes include: (1) the process was killed by the OOM killer due to high "
        "memory usage, (2) ray stop --force was called, or (3) the worker has crashed."
    )
    assert _reason(said) == (
        "The actor died unexpectedly before finishing this task. pid: 29979 ip: 127.0.0.1 The actor is dead because "
        "its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits "
        "with a connection error code 2. End of file. Was it killed for want of memory?"
    )
