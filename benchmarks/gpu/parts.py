"""The results of a stage of a check, part by part.

The file is written again before and after each part, so a later part that fails, hangs or kills the process takes none
of them, and the file says which part that was. If there is a second file, `begun_path`, the names of the parts that are
begun are kept in it. A further process for the same files runs only the others, so a part that kills its process does
not take those after it either.
"""

from __future__ import annotations

import inspect
import json
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ampsweep.files import atomic_write

UNFINISHED = "it did not finish"
"""The error of a part that runs, or ran when its process ended."""


class Parts:
    """Runs the parts of a stage and keeps their results in a file of JSON.

    A part is `{"result": ..., "seconds": ...}`, or `{"error": ..., "seconds": ...}` if it failed.
    """

    def __init__(
        self,
        path: Path,
        *,
        resume: bool = False,
        only: Sequence[str] = (),
        after_failure: Callable[[], object] = lambda: None,
    ) -> None:
        """Keep the parts in a file; those that it has already are kept until they are run again.

        Args:
            path: The file.
            resume: Run none of those again that have a result.
            only: Run only parts whose name contains one of these texts; with none, run all.
            after_failure: Called when the error of a part has been kept.
        """
        self._path = path
        self._only = tuple(only)
        self._parts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        results = (name for name, part in self._parts.items() if "error" not in part)
        self._begun_path = begun_path(path)
        self._begun: list[str] = read_begun(path)
        self._kept = frozenset([*self._begun, *(results if resume else ())])
        self._after_failure = after_failure
        self._ran: list[str] = []

    @property
    def failed(self) -> list[str]:
        """The names of the parts that were run and failed."""
        return [name for name in self._ran if "error" in self._parts[name]]

    def wants(self, name: str) -> bool:
        """Say whether a part is to be run."""
        return name not in self._kept and (not self._only or any(text in name for text in self._only))

    def wants_any(self, names: Iterable[str]) -> bool:
        """Say whether one of these parts is to be run."""
        return any(map(self.wants, names))

    async def run(self, name: str, measure: Callable[[], Any | Awaitable[Any]]) -> None:
        """Keep the result of a part that is to be run, or its error; the parts after it run in any case."""
        if not self.wants(name):
            return
        print(f"{name} ...", flush=True)
        self._begun.append(name)
        if self._begun_path.exists():
            self._begun_path.write_text(json.dumps(self._begun), encoding="utf-8")
        self._keep(name, {"error": UNFINISHED}, show=False)
        started = time.perf_counter()
        try:
            result = measure()
            part = {"result": await result if inspect.isawaitable(result) else result}
        except Exception as error:  # noqa: BLE001  # reported, and the next parts run
            part = _failed(error)
        self._keep(name, {**part, "seconds": round(time.perf_counter() - started, 1)})
        if "error" in part:
            self._after_failure()

    def fail(self, name: str, error: Exception) -> None:
        """Keep an error that was raised between the parts."""
        self._keep(name, _failed(error))

    def add(self, name: str, result: Any) -> None:
        """Keep something that describes the other parts."""
        self._keep(name, {"result": result})

    def _keep(self, name: str, part: dict[str, Any], *, show: bool = True) -> None:
        self._parts[name] = part
        if name not in self._ran:
            self._ran.append(name)
        with atomic_write(self._path) as temporary:  # the process may be killed meanwhile
            temporary.write_text(json.dumps(self._parts), encoding="utf-8")
        if show:
            print(name, json.dumps(part)[:2000], flush=True)


def begun_path(path: Path) -> Path:
    """Return the file with the names of the parts that were begun, for a file of parts."""
    return path.with_name(f"{path.name}.begun")


def read_begun(path: Path) -> list[str]:
    """Return the parts that were begun, for a file of parts."""
    begun = begun_path(path)
    names: list[str] = json.loads(begun.read_text(encoding="utf-8")) if begun.exists() else []
    return names


def _failed(error: Exception) -> dict[str, str]:
    traceback.print_exception(error)
    return {"error": f"{type(error).__name__}: {str(error).strip()[:1000]}"}
