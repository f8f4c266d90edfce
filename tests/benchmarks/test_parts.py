from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from benchmarks.parts import Parts


def test_the_file_has_every_part_so_far_whatever_fails(tmp_path: Path) -> None:
    path = tmp_path / "parts.json"
    parts = Parts(path)
    names: list[list[str]] = []

    def written() -> dict[str, Any]:
        return dict(json.loads(path.read_text()))

    async def slow() -> str:
        names.append(list(written()))
        return "as expected"

    def wrong() -> None:
        raise AssertionError("\nNot equal to tolerance\n" + "x" * 2000)

    async def run() -> None:
        parts.add("seed", 5)
        await parts.run("first", slow)
        await parts.run("second", wrong)
        await parts.run("third", lambda: [1, 2])

    asyncio.run(run())
    found = written()
    assert names == [["seed"]]
    assert list(found) == ["seed", "first", "second", "third"]
    assert found["seed"] == {"result": 5}
    assert found["first"]["result"] == "as expected"
    assert found["second"]["error"].startswith("AssertionError: Not equal to tolerance")
    assert len(found["second"]["error"]) < 1100
    assert found["third"]["result"] == [1, 2]
    assert all(part["seconds"] >= 0 for name, part in found.items() if name != "seed")
    assert parts.failed == ["second"]
