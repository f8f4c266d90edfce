from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from benchmarks.gpu.parts import UNFINISHED, Parts, begun_path


def test_the_file_has_every_part_so_far_whatever_fails(tmp_path: Path) -> None:
    path = tmp_path / "parts.json"
    parts = Parts(path)
    meanwhile: dict[str, Any] = {}

    def written() -> dict[str, Any]:
        return dict(json.loads(path.read_text()))

    async def slow() -> str:
        meanwhile.update(written())
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
    assert meanwhile == {"seed": {"result": 5}, "first": {"error": UNFINISHED}}
    assert list(found) == ["seed", "first", "second", "third"]
    assert found["seed"] == {"result": 5}
    assert found["first"]["result"] == "as expected"
    assert found["second"]["error"].startswith("AssertionError: Not equal to tolerance")
    assert len(found["second"]["error"]) < 1100
    assert found["third"]["result"] == [1, 2]
    assert all(part["seconds"] >= 0 for name, part in found.items() if name != "seed")
    assert parts.failed == ["second"]


def test_only_parts_without_a_result_are_run_again(tmp_path: Path) -> None:
    path = tmp_path / "parts.json"
    path.write_text(json.dumps({"a, long": {"result": 1}, "b, long": {"error": "it did not finish"}}))

    async def run(parts: Parts) -> list[str]:
        ran: list[str] = []
        for name in ("a, long", "b, long", "c"):
            await parts.run(name, lambda name=name: ran.append(name))  # type: ignore[misc]
        return ran

    resumed = Parts(path, resume=True)
    assert resumed.wants_any(["a, long", "c"])
    assert not resumed.wants_any(["a, long"])
    assert asyncio.run(run(resumed)) == ["b, long", "c"]
    results = json.loads(path.read_text())
    assert [results[name]["result"] for name in ("a, long", "b, long", "c")] == [1, None, None]
    assert asyncio.run(run(Parts(path, resume=True))) == []
    assert asyncio.run(run(Parts(path, only=["long"]))) == ["a, long", "b, long"]
    assert asyncio.run(run(Parts(path))) == ["a, long", "b, long", "c"]
    assert list(json.loads(path.read_text())) == ["a, long", "b, long", "c"]


def test_a_failure_of_an_earlier_run_is_not_one_of_this_run(tmp_path: Path) -> None:
    path = tmp_path / "parts.json"
    path.write_text(json.dumps({"a": {"error": "AssertionError: 1"}, "b": {"result": 2}}))
    parts = Parts(path, only=["b"])
    asyncio.run(parts.run("a", lambda: 1))
    asyncio.run(parts.run("b", lambda: 3))
    assert parts.failed == []
    assert json.loads(path.read_text())["a"] == {"error": "AssertionError: 1"}
    assert json.loads(path.read_text())["b"]["result"] == 3


def test_a_further_process_runs_what_was_not_begun(tmp_path: Path) -> None:
    path, failures = tmp_path / "parts.json", list[str]()
    begun_path(path).write_text("[]")
    asyncio.run(Parts(path, after_failure=lambda: failures.append("a")).run("a", lambda: 1 / 0))
    again = Parts(path)
    asyncio.run(again.run("a", lambda: 1))
    asyncio.run(again.run("b", lambda: 2))
    parts = json.loads(path.read_text())
    assert parts["a"]["error"].startswith("ZeroDivisionError")
    assert parts["b"]["result"] == 2
    assert failures == ["a"]
