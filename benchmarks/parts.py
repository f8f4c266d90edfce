"""The results of a stage of a check, part by part.

The file is written again after each part, so a later part that fails, hangs or kills the process takes none of them.
"""

from __future__ import annotations

import inspect
import json
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from ampsweep.files import atomic_write


class Parts:
    """Runs the parts of a stage and keeps their results in a file of JSON.

    A part is `{"result": ..., "seconds": ...}`, or `{"error": ..., "seconds": ...}` if it failed.
    """

    def __init__(self, path: Path) -> None:
        """Keep the parts in the file `path`."""
        self._path = path
        self._parts: dict[str, Any] = {}

    @property
    def failed(self) -> list[str]:
        """The names of the parts that failed."""
        return [name for name, part in self._parts.items() if "error" in part]

    async def run(self, name: str, measure: Callable[[], Any | Awaitable[Any]]) -> None:
        """Keep the result of a part, or its error; the parts after it run in any case."""
        print(f"{name} ...", flush=True)
        started = time.perf_counter()
        try:
            result = measure()
            part = {"result": await result if inspect.isawaitable(result) else result}
        except Exception as error:  # noqa: BLE001  # reported, and the next parts run
            part = _failed(error)
        self._keep(name, {**part, "seconds": round(time.perf_counter() - started, 1)})

    def fail(self, name: str, error: Exception) -> None:
        """Keep an error that was raised between the parts."""
        self._keep(name, _failed(error))

    def add(self, name: str, result: Any) -> None:
        """Keep something that describes the other parts."""
        self._keep(name, {"result": result})

    def _keep(self, name: str, part: dict[str, Any]) -> None:
        self._parts[name] = part
        with atomic_write(self._path) as temporary:  # the process may be killed meanwhile
            temporary.write_text(json.dumps(self._parts), encoding="utf-8")
        print(name, json.dumps(part)[:2000], flush=True)


def _failed(error: Exception) -> dict[str, str]:
    traceback.print_exception(error)
    return {"error": f"{type(error).__name__}: {str(error).strip()[:1000]}"}
