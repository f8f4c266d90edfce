"""A sweep that a model cannot be asked is rejected when it is planned, not when its cells run."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ampsweep.errors import InvalidRequest
from jobs.planning.catalog import Catalog
from tests.jobs.cluster import planned

STEERED: dict[str, Any] = {"languages": ["fr"], "op": "scale", "factors": [2], "part": [None, "answer"]}
WORDS = ["a", "b"]
HARMONY = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "analysis", "final"]


@pytest.fixture
def generation(catalog: Catalog) -> dict[str, Any]:
    assert catalog.data is not None
    (catalog.data / "prompts").mkdir()
    (catalog.data / "prompts" / "en.txt").write_text("Once upon a time\n", encoding="utf-8")
    return {"name": "generation", "languages": ["en"], "data": "prompts"}


def write_vocabulary(catalog: Catalog, vocabulary: object, *added: str) -> None:
    tokenizer = {"model": {"vocab": vocabulary}, "added_tokens": [{"id": 9, "content": token} for token in added]}
    (catalog.models["tiny"] / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")


def test_a_model_without_a_thinking_part_is_not_steered_in_a_part(catalog: Catalog, generation: Any) -> None:
    write_vocabulary(catalog, dict.fromkeys([*WORDS, "<think>", *HARMONY[1:]], 0))
    with pytest.raises(InvalidRequest, match=r"no tokens around what it thinks .* leave part out") as refused:
        planned(catalog, interventions=STEERED, tasks=[generation])
    assert refused.value.param == "interventions.part"
    assert len(planned(catalog, interventions={**STEERED, "part": [None]}, tasks=[generation])) == 2


@pytest.mark.parametrize(
    ("vocabulary", "added"),
    [
        (dict.fromkeys([*WORDS, "<think>", "</think>"], 0), ()),
        ([[word, -1.0] for word in WORDS], ("[THINK]", "[/THINK]")),
        (dict.fromkeys(HARMONY, 0), ()),
        (None, ()),  # of a form that is not known here: the engine decides
    ],
)
def test_a_model_that_thinks_is_steered_in_a_part(
    vocabulary: object, added: tuple[str, ...], catalog: Catalog, generation: Any
) -> None:
    write_vocabulary(catalog, vocabulary, *added)
    assert len(planned(catalog, interventions=STEERED, tasks=[generation])) == 3


def test_tokens_that_other_files_add_count(catalog: Catalog, generation: Any) -> None:
    write_vocabulary(catalog, dict.fromkeys(WORDS, 0))
    folder = catalog.models["tiny"]
    (folder / "added_tokens.json").write_text(json.dumps({"<think>": 7}), encoding="utf-8")
    further = {"added_tokens_decoder": {"8": {"content": "</think>"}}}
    (folder / "tokenizer_config.json").write_text(json.dumps(further), encoding="utf-8")
    assert len(planned(catalog, interventions=STEERED, tasks=[generation])) == 3


def test_a_chat_needs_a_template(catalog: Catalog) -> None:
    interventions = {"languages": ["fr"], "op": "scale", "factors": [2]}
    tasks = [{"name": "lss", "languages": ["en"], "chat": chat} for chat in (False, True)]
    real = replace(catalog, engine="transformers")
    with pytest.raises(InvalidRequest, match="model tiny has no chat template; leave chat out") as refused:
        planned(real, interventions=interventions, tasks=tasks)
    assert refused.value.param == "tasks.1.chat"
    assert planned(real, interventions=interventions, tasks=tasks[:1])
    (catalog.models["tiny"] / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    assert planned(real, interventions=interventions, tasks=tasks)
