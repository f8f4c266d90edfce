"""Where the answers of a sweep come from, by hash: the model, the neuron sets and the data of its cells."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ampsweep.hashing import canonical_json
from jobs.cell import Cell


def sources_of(cells: Iterable[Cell]) -> dict[str, list[Any]]:
    """Return each of `models`, `engines`, `neurons` and `data` once, in a fixed order, as JSON."""
    found: dict[str, dict[str, Any]] = {"models": {}, "engines": {}, "neurons": {}, "data": {}}

    def note(kind: str, value: Any) -> None:
        found[kind][canonical_json(value)] = value

    for cell in cells:
        note("models", {"name": cell.model, "source": cell.model_source, "sha256": cell.model_hash})
        note("engines", {"name": cell.engine, "versions": cell.engine_version, "dtype": cell.dtype})
        if cell.neurons is not None:
            note("neurons", cell.neurons.id)
        ref = cell.task
        data = {"task": ref.name, "version": ref.version, "data": ref.data, "split": ref.split}
        more = {"repairs": dict(ref.repairs)} if ref.repairs else {}
        note("data", {**data, "language": ref.data_language, "sha256": ref.data_hash, **more})
    return {kind: [values[key] for key in sorted(values)] for kind, values in found.items()}
