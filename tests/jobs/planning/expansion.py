"""The cells of a spec a second time, from docs/spec.md alone: every combination of its values, spelled out one by one.

Nothing of `jobs.spec` and `jobs.planning` is used but the seeds of further random draws, which the page does not give.
A condition is a JSON object with what distinguishes a cell; equal ones are one cell.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from jobs.cell import Cell
from jobs.planning.controls import draw_seed

Json = Mapping[str, Any]
DRIFT = {"min_characters": 60, "window": 80, "every": 30, "switch_on": 2, "switch_off": 2, "confidence": 0.7}


def condition(**fields: Any) -> str:
    """Return a condition as canonical JSON; None, False and empty values count as not given."""
    return json.dumps(
        {name: value for name, value in fields.items() if value not in (None, False, {}, [])}, sort_keys=True
    )


class Expansion:
    """The conditions of one spec on a model with `layers` layers and a set whose languages have these neurons."""

    def __init__(self, spec: Json, *, layers: int, neurons: Mapping[str, Sequence[tuple[int, int]]]) -> None:
        self._spec = spec
        self._steers: Json = spec["interventions"]
        self._layers = layers
        self._neurons = neurons

    def conditions(self) -> Iterator[str]:
        """Yield every condition that the spec names, some of them several times."""
        for mode, task in product(_listed(self._spec.get("mode", "corrected")), self._spec["tasks"]):
            for data, pair_target in self._pairs(task):
                which = {
                    "mode": mode,
                    "task": task["name"],
                    "data": data,
                    "pair": pair_target,
                    "limit": task.get("limit"),
                    "adapter": self._spec.get("adapter"),
                }
                yield condition(**which)
                if "repeat" in self._controls:
                    yield condition(**which, repeat=True)
                for target in [pair_target] if pair_target else self._targets(task):
                    for baseline in self._steers.get("baselines", ()):
                        if isinstance(baseline, str):
                            yield condition(**which, instruction=[baseline, target])
                    for intervention in self._interventions(mode, data, target):
                        yield condition(**which, intervention=intervention)

    @property
    def _controls(self) -> Sequence[str]:
        controls: Sequence[str] = self._steers.get("controls", ())
        return controls

    def _targets(self, task: Json) -> list[str]:
        languages = self._steers.get("languages") or list(self._neurons)
        return list(task.get("targets") or languages)

    def _pairs(self, task: Json) -> Iterator[tuple[str, str | None]]:
        """Yield the data languages, with each target where the task compares two languages."""
        for data in task["languages"]:
            if task["name"] != "lss":
                yield data, None
            else:
                yield from ((data, target) for target in self._targets(task) if target != data)

    def _interventions(self, mode: str, data: str, target: str) -> Iterator[Json]:
        for baseline in self._steers.get("baselines", ()):
            if not isinstance(baseline, str):
                yield from self._vectors(baseline, target)
        for operation in self._steers.get("ops") or [self._steers]:
            yield from self._edits(operation, mode, data, target)

    def _vectors(self, baseline: Json, target: str) -> Iterator[Json]:
        for factor, layers, tokens in product(
            baseline["factors"], self._layer_choices(baseline.get("layers", "all")), self._token_choices()
        ):
            vector = {
                "languages": {target: 1.0},
                "op": "add",
                "vector": baseline["method"],
                "factor": float(factor),
                "layers": layers,
                **tokens,
            }
            yield _given(vector)
            if "random" in self._controls:
                yield from self._random(vector)

    def _edits(self, operation: Json, mode: str, data: str, target: str) -> Iterator[Json]:
        languages = self._steers.get("languages")
        weight = languages[target] if isinstance(languages, dict) else 1.0
        factors = operation.get("factors") or [1]
        if mode == "paper":
            factors = [int(factor) for factor in factors]
        for patch, statistic, factor, layers, tokens in product(
            _listed(operation.get("patch")),
            _listed(operation.get("statistic")),
            factors,
            self._layer_choices(self._steers.get("layers", "all")),
            self._token_choices(),
        ):
            edit = {
                "languages": {target: float(weight)},
                "op": operation["op"],
                "factor": float(factor),
                "patch": patch,
                "statistic": statistic,
                "layers": layers,
                "non_target": self._further("non_target"),
                "source": None if data == target else self._further("source", language=data),
                **tokens,
            }
            if self._steers.get("neurons") == "each":
                yield from self._one_by_one(edit, target)
                continue
            yield _given(edit)
            yield from self._with_controls(edit, data, target)

    def _further(self, name: str, **more: str) -> Json | None:
        op = self._steers.get(name)
        return None if op is None else {"op": op["op"], "factor": float(op["factor"]), **more}

    def _one_by_one(self, edit: Json, target: str) -> Iterator[Json]:
        for layer, index in self._neurons[target]:
            if edit["layers"] is None or layer in edit["layers"]:
                yield _given({**edit, "neuron": [layer, index]})

    def _with_controls(self, edit: Json, data: str, target: str) -> Iterator[Json]:
        if "random" in self._controls:
            yield from self._random(edit)
        if "other" in self._controls:
            yield _given({**edit, "selection": "other", "other": self._other(data, target)})
        if "non_language" in self._controls:
            yield _given({**edit, "selection": "non_language"})
        if "zero" in self._controls:
            where = {name: edit.get(name) for name in ("layers", "scope", "tokens", "when", "part")}
            zero = {"languages": {target: 1.0}, "op": "set", "factor": 0.0, "selection": "zero"}
            yield _given({**zero, **where})

    def _random(self, edit: Json) -> Iterator[Json]:
        for draw in range(self._steers.get("random_draws", 1)):
            yield _given({**edit, "selection": "random", "seed": draw_seed(self._spec.get("seed", 0), draw)})

    def _other(self, data: str, target: str) -> str:
        """Return the language after the target in the alphabet, not the data language if there are three."""
        circle = sorted(self._neurons) * 3
        after = circle[circle.index(target) + 1 :]
        return next(code for code in after if code != target and (code != data or len(self._neurons) < 3))

    def _layer_choices(self, layers: object) -> list[list[int] | None]:
        if layers == "all":
            return [None]
        return [[layer] for layer in range(self._layers)] if layers == "each" else [sorted(_listed(layers))]

    def _token_choices(self) -> Iterator[Json]:
        names = ("tokens", "when", "part")
        for choice in product(*(_listed(self._steers.get(name)) for name in names)):
            chosen = dict(zip(names, choice, strict=True))
            if chosen["when"] == "drift":
                chosen["when"] = {"drift": {}}
            if chosen["when"] is not None:
                chosen["when"] = {"drift": {**DRIFT, **chosen["when"]["drift"]}}
            follows_text = chosen["when"] is not None or chosen["part"] is not None
            yield {**chosen, "scope": "generation" if follows_text else self._steers.get("scope", "all")}


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _given(fields: Json) -> Json:
    return {name: value for name, value in fields.items() if value is not None}


def condition_of(cell: Cell) -> str:
    """Return the condition of a planned cell."""
    raw = None if cell.intervention is None else cell.intervention.to_dict()
    if raw is not None:
        languages = raw["languages"]
        raw["languages"] = languages if isinstance(languages, dict) else dict.fromkeys(languages, 1.0)
        raw["layers"] = None if raw["layers"] == "all" else raw["layers"]
        raw["seed"] = raw["seed"] if raw["selection"] == "random" else None
        raw = dict(_given(raw))
    instruction = None if cell.instruction is None else [cell.instruction.method, cell.instruction.language]
    return condition(
        mode=cell.task.mode,
        task=cell.task.name,
        data=cell.task.data_language,
        pair=cell.task.target_language,
        limit=cell.task.limit,
        adapter=None if cell.adapter is None else cell.adapter.name,
        repeat=cell.repeat,
        instruction=instruction,
        intervention=raw,
    )
