"""A spec has the cells that docs/spec.md says, whatever it combines; or it is rejected by the name of a field."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest, SweepTooLarge
from engine.neurons.formats.neuron_json import from_json
from engine.neurons.neuron_set import NeuronSet, PatchValues
from engine.steering.edits import resolve
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.planner import plan
from jobs.planning.search import search_of
from jobs.spec.sweep import parse_spec
from tests.jobs.cluster import write_catalog
from tests.jobs.planning.expansion import Expansion, condition_of

LAYERS, WIDTH = 3, 8
NEURONS = {"en": [(0, 1), (1, 4)], "fr": [(0, 1), (0, 7), (2, 0)], "tr": [(2, 3)], "zh": [(1, 0)]}


class World:
    """An installation with a neuron set of four languages."""

    def __init__(self, folder: Path) -> None:
        self.catalog: Catalog = write_catalog(folder)
        assert self.catalog.data is not None
        (self.catalog.data / "prompts").mkdir()
        for language in ("en", "fr"):
            (self.catalog.data / "prompts" / f"{language}.txt").write_text("Once upon a time\n", encoding="utf-8")
        by_layer: dict[str, Mapping[str, list[int]]] = {}
        for code, pairs in NEURONS.items():
            by_layer[code] = {str(layer): [index for at, index in pairs if at == layer] for layer, _ in pairs}
        shape = (len(NEURONS), LAYERS, WIDTH)
        rng = np.random.default_rng(0)
        self.neurons: NeuronSet = replace(
            from_json(by_layer, model=self.catalog.model("tiny")),
            patch=PatchValues(**{kind: rng.random(shape).astype(np.float32) for kind in ("max", "median", "mean")}),
            entropy=rng.random(shape[1:]).astype(np.float32),
            residual_mean=rng.random((*shape[:2], 4)).astype(np.float32),
        ).with_content_id()
        self.sets = NeuronSets(folder / "neurons")
        self.sets.publish(self.neurons.id, self.neurons.save)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def some(*values: Any, least: int = 1) -> st.SearchStrategy[list[Any]]:
    """Return a strategy for lists of some of the values, in any order."""
    return st.lists(st.sampled_from(values), min_size=least, unique_by=repr)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


FACTORS = some(-1.5, 0, 0.5, 1, 1.25, 2)
LAYER_CHOICES = st.sampled_from(["all", "each", [2, 0], [1]])
OPERATIONS = st.one_of(
    st.fixed_dictionaries({"op": st.sampled_from(["scale", "add", "set"]), "factors": FACTORS}),
    st.fixed_dictionaries(
        {"op": st.just("set"), "patch": some("max", "median", "mean")}, optional={"factors": FACTORS}
    ),
    st.fixed_dictionaries({"op": st.just("add"), "patch": some("mean", "difference")}, optional={"factors": FACTORS}),
    st.fixed_dictionaries(
        {"op": st.sampled_from(["add", "set"]), "statistic": some("max", "p97.5", "mad")},
        optional={"factors": FACTORS},
    ),
)
WEIGHTS = st.dictionaries(st.sampled_from(["fr", "tr", "en"]), st.sampled_from([1, 0.5, -2]), min_size=1)
LANGUAGES = some("en", "fr", "tr", "zh") | WEIGHTS
TOKENS = st.one_of(
    st.fixed_dictionaries({}, optional={"scope": st.sampled_from(["all", "prompt", "generation"])}),
    st.fixed_dictionaries({"scope": st.just("prompt"), "tokens": some(None, {"start": -4}, {"positions": [-1, 0]})}),
    st.fixed_dictionaries({"scope": st.just("generation"), "tokens": some(None, {"end": 8}, {"decay": 0.5})}),
    st.fixed_dictionaries({"tokens": st.sampled_from([{"start": 1}, [{"decay": 0.5}]])}),
)
TEXT = st.fixed_dictionaries(
    {"scope": st.sampled_from(["all", "generation"])},
    optional={
        "when": some(None, "drift", {"drift": {"window": 90}}),
        "part": some(None, "thinking", "answer"),
    },
)
BASELINES = st.lists(
    st.sampled_from(["prompt_en", "prompt_native"])
    | st.fixed_dictionaries(
        {"method": st.sampled_from(["diffmean", "diffmean_raw"]), "factors": some(2, 4.5)},
        optional={"layers": LAYER_CHOICES},
    ),
    unique_by=lambda baseline: json.dumps(
        {"layers": "all", **baseline} if isinstance(baseline, dict) else baseline, sort_keys=True
    ),
    max_size=3,
)
SECOND_OP = st.sampled_from([{"op": "set", "factor": 0}, {"op": "scale", "factor": 2}])


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a spec; most are valid."""
    generates = draw(st.booleans())
    interventions: dict[str, Any] = draw(TEXT if generates and draw(st.booleans()) else TOKENS)
    if draw(st.booleans()):
        unordered = partial(json.dumps, sort_keys=True)
        interventions["ops"] = draw(st.lists(OPERATIONS, min_size=1, max_size=3, unique_by=unordered))
    else:
        interventions |= draw(OPERATIONS)
    one_by_one = draw(st.integers(0, 5)) == 0
    controls = ["repeat"] if one_by_one else ["random", "other", "non_language", "zero", "repeat"]
    interventions |= {
        "languages": draw(LANGUAGES),
        "layers": draw(LAYER_CHOICES),
        "controls": draw(some(*controls, least=0)),
        "baselines": draw(BASELINES),
        "non_target": draw(maybe(SECOND_OP)),
        "neurons": "each" if one_by_one else None,
    }
    if "random" in interventions["controls"]:
        interventions["random_draws"] = draw(st.integers(1, 3))
    tasks: list[dict[str, Any]] = []
    if generates:
        tasks.append({"name": "generation", "languages": draw(some("en", "fr")), "data": "prompts"})
    else:
        tasks.append({"name": "lss", "languages": draw(some("en", "tr")), "limit": draw(maybe(st.just(3)))})
        if draw(st.booleans()):
            tasks.append({"name": "xcopa", "languages": draw(some("it", "zh"))})
    if draw(st.booleans()) and all("it" not in task["languages"] for task in tasks):
        interventions["source"] = draw(SECOND_OP)
    if draw(st.booleans()):
        tasks[0]["targets"] = draw(some(*interventions["languages"]))
    return {
        "model": "tiny",
        "interventions": {name: value for name, value in interventions.items() if value is not None},
        "tasks": [{name: value for name, value in task.items() if value is not None} for task in tasks],
        "mode": draw(st.sampled_from(["corrected", "paper", ["corrected", "paper"]])),
        "seed": draw(st.integers(0, 5)),
    }


@given(raw=specs())
def test_a_spec_has_the_cells_that_the_documentation_says(raw: dict[str, Any], world: World) -> None:
    spec = {**raw, "neurons": {"id": world.neurons.id}}
    expansion = Expansion(spec, layers=LAYERS, neurons=NEURONS)
    named = Counter(expansion.conditions())
    first = spec["tasks"][0]
    languages, targets = first["languages"], list(first.get("targets", spec["interventions"]["languages"]))
    if first["name"] == "lss" and languages == targets and len(targets) == 1:
        with pytest.raises(InvalidRequest, match="none of the targets differs") as refused:
            plan(parse_spec(spec), world.catalog, world.sets)
        assert refused.value.param == "tasks.0.languages"
        return
    cells = plan(parse_spec(spec), world.catalog, world.sets)
    planned = [condition_of(cell) for cell in cells]
    assert len(set(planned)) == len(planned), "equal cells are one"
    assert set(planned) == set(named)
    for cell in cells:
        if cell.intervention is not None:
            assert Intervention.from_dict(cell.intervention.to_dict()) == cell.intervention
            resolve(cell.intervention, world.neurons)
    plan(parse_spec(spec), world.catalog, world.sets, max_cells=named.total())
    if len(cells) > 1:
        with pytest.raises(SweepTooLarge):
            plan(parse_spec(spec), world.catalog, world.sets, max_cells=len(cells) - 1)


@st.composite
def searches(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a spec with a search over the factors of one operation."""
    raw = draw(specs().filter(lambda raw: raw["tasks"][0]["name"] == "lss" and "targets" not in raw["tasks"][0]))
    interventions = {name: value for name, value in raw["interventions"].items() if name not in ("ops", "neurons")}
    operation = draw(OPERATIONS)
    for name in ("op", "factors", "patch", "statistic"):
        interventions.pop(name, None)
    interventions |= {**operation, "factors": draw(some(-1.5, 0, 0.5, 1, 1.25, 2, least=3))}
    keep = draw(st.integers(1, 2))
    raw["tasks"][0].pop("limit", None)
    return {
        **raw,
        "interventions": interventions,
        "mode": "corrected",
        "search": {"method": "halving", "items": 1, "keep": keep},
    }


@given(raw=searches(), seed=st.integers(0, 100))
def test_a_search_ends_with_the_cells_of_the_best_factors(raw: dict[str, Any], seed: int, world: World) -> None:
    """Try all factors, keep the better half, and so on; a factor is as good as its mean over data languages."""
    spec = {**raw, "neurons": {"id": world.neurons.id}}
    grid = {text: json.loads(text) for text in Expansion(spec, layers=LAYERS, neurons=NEURONS).conditions()}
    if not any(each["task"] == "lss" for each in grid.values()):
        return  # no target differs from the data language
    parsed, tried = parse_spec(spec), {each["pair"] for each in grid.values() if each["task"] == "lss"}
    steered = {target for each in grid.values() for target in each.get("intervention", {}).get("languages", ())}
    if steered - tried:
        with pytest.raises(InvalidRequest, match="no task has lss for target") as refused:
            plan(parsed, world.catalog, world.sets)
        assert refused.value.param == "search"
        return
    cells, search = list(plan(parsed, world.catalog, world.sets)), search_of(parsed)
    assert search is not None

    def quality(race: str, factor: float, data: str) -> float:
        return random.Random(f"{seed} {race} {factor} {data}").choice([0.25, 0.5, 0.75])

    while True:
        values = {}
        for cell in cells:
            if cell.intervention is not None and cell.task.name == "lss":
                edit = json.loads(condition_of(cell))["intervention"]
                values[cell.id] = quality(race_of(edit), edit["factor"], cell.task.data_language)
        if not (further := search.next(cells, values)):
            break
        cells += further

    races: dict[str, dict[float, set[str]]] = {}
    for each in grid.values():
        edit = each.get("intervention", {"vector": True})
        if each["task"] == "lss" and "vector" not in edit and "selection" not in edit:
            races.setdefault(race_of(edit), {}).setdefault(edit["factor"], set()).add(each["data"])
    kept: dict[str, list[float]] = {}
    for race, factors in races.items():
        left = sorted(factors)
        while len(left) > spec["search"]["keep"]:
            means = {factor: fmean(quality(race, factor, data) for data in factors[factor]) for factor in left}
            half = max(spec["search"]["keep"], -(-len(left) // 2))
            left = sorted(sorted(left, key=lambda factor: (-round(means[factor], 9), factor))[:half])
        kept[race] = left

    def is_kept(edit: dict[str, Any] | None) -> bool:
        if edit is None or "vector" in edit or edit.get("selection") == "zero":
            return True
        return edit["factor"] in kept[race_of(edit)]

    in_full = [condition_of(cell) for cell in cells if search.rung(cell.task) is None]
    assert len(set(in_full)) == len(in_full)
    assert set(in_full) == {text for text, each in grid.items() if is_kept(each.get("intervention"))}


def race_of(edit: dict[str, Any]) -> str:
    """Return what the interventions have in common whose factors compete."""
    differing = ("factor", "source", "selection", "seed", "other")
    return json.dumps({name: value for name, value in edit.items() if name not in differing}, sort_keys=True)
