"""Both modes of a sweep: requests, neuron sets and factors."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ampsweep.domain.generation.prompt import ChatMessage
from ampsweep.errors import InvalidRequest
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog
from jobs.planning.planner import Plan, plan
from jobs.spec.sweep import parse_spec
from jobs.tasks.built_in.flores import PAPER_TOKENS
from jobs.tasks.loading import load_items
from jobs.tasks.registry import task_of
from jobs.tasks.requests import GenerateCall, ScoreCall
from tests.jobs.cluster import raw_spec, write_jsonl

BOTH = ["corrected", "paper"]


def cells(catalog: Catalog, **changes: Any) -> Plan:
    return plan(parse_spec(raw_spec(**changes)), catalog, NeuronSets(Path("nowhere")))


@pytest.fixture
def flores(catalog: Catalog, tmp_path: Path) -> Catalog:
    folder = tmp_path / "sets" / "flores200" / "devtest"
    folder.mkdir(parents=True)
    for code, text in {"eng_Latn": "Good morning.", "fra_Latn": "Bonjour."}.items():
        (folder / f"{code}.txt.gz").write_bytes(gzip.compress(f"{text}\n".encode()))
    return replace(catalog, data=tmp_path / "sets")


def test_one_mode_is_the_default_and_a_word_is_a_list_of_one() -> None:
    assert parse_spec(raw_spec()).mode == ("corrected",)
    assert parse_spec(raw_spec(mode="paper")).mode == ("paper",)
    assert parse_spec(parse_spec(raw_spec(mode=BOTH)).to_dict()).mode == ("corrected", "paper")
    with pytest.raises(InvalidRequest) as caught:
        parse_spec(raw_spec(mode="wrong"))
    assert caught.value.param is not None
    assert caught.value.param.startswith("mode")


def test_published_statistics_are_for_the_transformers_engine(catalog: Catalog) -> None:
    statistics = {"interventions": {"op": "set", "statistic": "mean"}, "mode": "paper"}
    with pytest.raises(InvalidRequest, match="only the transformers engine") as caught:
        cells(replace(catalog, engine="vllm"), **statistics)
    assert caught.value.param == "mode"
    assert cells(replace(catalog, engine="transformers"), **statistics)


def test_both_modes_have_cells_and_neuron_sets_of_their_own(catalog: Catalog) -> None:
    planned = cells(catalog, mode=BOTH)
    by_mode = {mode: [cell for cell in planned if cell.task.mode == mode] for mode in BOTH}
    cells_by_mode = {mode: cells(catalog, mode=mode) for mode in BOTH}
    assert {mode: [cell.id for cell in cells] for mode, cells in by_mode.items()} == {
        mode: [cell.id for cell in cells] for mode, cells in cells_by_mode.items()
    }
    methods = {cell.task.mode: cell.neurons.method for cell in planned if cell.neurons is not None}
    assert methods == {"corrected": "lape", "paper": "lape_paper"}
    assert len({cell.neurons.id for cell in planned if cell.neurons is not None}) == 2


def test_published_factors_are_cut_to_whole_numbers(catalog: Catalog) -> None:
    interventions = {"languages": ["fr"], "op": "scale", "factors": [0.5, 0.2, 2.7, -1.5, 2]}
    paper = cells(catalog, mode="paper", interventions=interventions)
    assert [cell.intervention.factor for cell in paper if cell.intervention] == [0.0, 2.0, -1.0]
    corrected = cells(catalog, interventions=interventions)
    assert len([cell for cell in corrected if cell.intervention]) == 5


def test_a_published_object_has_a_space_before_it_in_every_language(catalog: Catalog) -> None:
    tasks = [{"name": "lss", "languages": ["zh"]}]
    for mode, space in (("corrected", ""), ("paper", " ")):
        (cell, *_) = cells(catalog, mode=mode, tasks=tasks)
        call = load_items(cell, catalog).items[0].calls[1]
        assert isinstance(call, ScoreCall)
        assert call.continuation == f"{space}巴黎"


def test_the_published_question_is_asked_also_where_it_is_wrong(catalog: Catalog, tmp_path: Path) -> None:
    folder = tmp_path / "sets" / "xcopa"
    folder.mkdir(parents=True)
    row = {"idx": 0, "premise": "A.", "choice1": "B.", "choice2": "C.", "label": 0}
    write_jsonl(folder / "test.it.jsonl", [{**row, "question": "cause", "question_source": "effect"}])
    catalog = replace(catalog, data=tmp_path / "sets")
    for mode, connector in (("corrected", "perché"), ("paper", "quindi")):
        (cell, *_) = cells(catalog, mode=mode, tasks=[{"name": "xcopa", "languages": ["it"]}])
        call = load_items(cell, catalog).items[0].calls[0]
        assert isinstance(call, ScoreCall)
        assert call.context == f"A {connector}"


def test_published_perplexity_is_the_mean_log_probability(flores: Catalog) -> None:
    samples = pa.table({"score": [1.0, 2.0]})
    values = {}
    for mode in BOTH:
        (cell, *_) = cells(flores, mode=mode, tasks=[{"name": "perplexity", "languages": ["fr"]}])
        results = [
            (metric.name, metric.evaluate(samples, np.random.default_rng(0))) for metric in task_of(cell.task).metrics
        ]
        values[mode] = {name: result.value for name, result in results if result is not None}
    assert values["paper"] == {"perplexity": 1.5}
    assert values["corrected"] == {"perplexity": pytest.approx((np.e + np.e**2) / 2), "nll": 1.5}


def test_only_the_published_baseline_has_the_language_in_its_prompt(flores: Catalog) -> None:
    tasks = [{"name": "flores_untargeted", "languages": ["fr"]}]
    for mode in BOTH:
        baseline, steered = cells(flores, mode=mode, tasks=tasks)[:2]
        assert baseline.task == steered.task
        calls = [load_items(cell, flores).items[0].calls[0] for cell in (baseline, steered)]
        assert all(isinstance(call, GenerateCall) for call in calls)
        names_french = ["French" in str(call.prompt) for call in calls if isinstance(call, GenerateCall)]
        assert names_french == [mode == "paper", False]
        (call,) = [call for call in calls[1:] if isinstance(call, GenerateCall)]
        assert (call.max_tokens, call.stop) == ((PAPER_TOKENS, ()) if mode == "paper" else (256, ("\n",)))


def test_a_chat_has_the_context_as_the_users_turn_and_the_rest_as_the_answer(catalog: Catalog) -> None:
    tasks = [{"name": "lss", "languages": ["en"], "chat": True}]
    (cell, *_) = cells(catalog, tasks=tasks)
    call = load_items(cell, catalog).items[0].calls[0]
    (plain, *_) = cells(catalog, tasks=[{"name": "lss", "languages": ["en"]}])
    bare = load_items(plain, catalog).items[0].calls[0]
    assert isinstance(call, ScoreCall)
    assert isinstance(bare, ScoreCall)
    assert call.context == (ChatMessage(role="user", content=str(bare.context)),)
    assert call.continuation == bare.continuation.lstrip()
    assert plain.id != cell.id


def test_a_task_of_bare_text_is_no_chat(flores: Catalog) -> None:
    with pytest.raises(
        InvalidRequest, match="perplexity scores plain text without a chat template; leave chat out"
    ) as caught:
        cells(flores, tasks=[{"name": "perplexity", "languages": ["fr"], "chat": True}])
    assert caught.value.param == "tasks.0.chat"


def test_a_search_is_in_one_mode(catalog: Catalog) -> None:
    with pytest.raises(InvalidRequest, match="a search runs in one mode"):
        cells(catalog, mode=BOTH, search="halving")
