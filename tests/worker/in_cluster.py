"""One sweep in a Ray cluster that is there already; run as a process by the test of a cluster that changes.

`python -m tests.worker.in_cluster ADDRESS FOLDER` prints a line of JSON whenever something has changed: the engines'
states and the cells done. It ends with the sweep, and prints how it stands and how often its cells were tried.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from api.http.change_notifier import ChangeNotifier
from jobs.store.transitions import SWEEP_ENDED
from tests.worker.installation import Installation
from worker.pool.ray_pool import RayPool

ENGINES = 2


async def main(address: str, folder: Path) -> None:
    installation = Installation.build(folder)
    engine = replace(installation.engine(count=ENGINES, seconds_per_step=1.0), cpus=1.0)
    pool = RayPool([engine], installation.worker_config, address=address, cells_per_engine=2)
    notifier = ChangeNotifier()
    pool.watch(notifier.notify)
    await pool.start()
    dispatcher = installation.dispatcher(pool, on_change=notifier.notify, poll=0.2)
    dispatcher.start()
    factors = [index / 10 for index in range(1, 41)]
    sweep = installation.submit(interventions={"languages": ["fr", "tr"], "op": "scale", "factors": factors})
    while True:
        subscription = notifier.subscribe()
        now = installation.store.get_sweep(sweep.id)
        states = [engine["state"] for engine in pool.engines()]
        say(states=states, done=now.request_counts.completed, total=now.request_counts.total)
        if now.state in SWEEP_ENDED:
            break
        await subscription.wait()
    tries = Counter(record.attempts for record in installation.store.list_cells(sweep.id, limit=1000).data)
    rows = installation.results.samples_file(installation.store.get_sweep(sweep.id)).stat().size
    await dispatcher.stop()
    await pool.stop()
    say(ended=now.state.value, failed=now.request_counts.failed, tries=dict(tries), bytes=rows)


def say(**fact: object) -> None:
    sys.stdout.write(json.dumps(fact) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
