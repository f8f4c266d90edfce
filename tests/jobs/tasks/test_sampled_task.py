from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ampsweep.errors import InvalidRequest
from jobs.cell import TaskRef
from jobs.tasks.base import Item
from jobs.tasks.built_in.generation import Generation
from jobs.tasks.built_in.language_confusion import LanguageConfusion
from jobs.tasks.requests import GenerateCall
from tests.jobs.tasks.real_data import reference

TASK = Generation()
REF = reference(TASK, "fr", split="devtest")


def items_of(ref: TaskRef, *, doc_id: str = "3", seed: int = 7) -> list[Item]:
    return list(TASK.ask(doc_id, "Bonjour", ref, seed=seed))


def with_options(**options: int | float) -> TaskRef:
    return replace(REF, sampling=TASK.sampling_options(options))


def calls(items: list[Item]) -> list[GenerateCall]:
    item_calls = [call for item in items for call in item.calls]
    assert all(isinstance(call, GenerateCall) for call in item_calls)
    return [call for call in item_calls if isinstance(call, GenerateCall)]


def test_the_defaults_of_a_task_are_no_options() -> None:
    assert TASK.sampling_options({}) == ()
    assert TASK.sampling_options({"max_tokens": 64, "temperature": 0.0, "top_p": 1.0, "n": 1}) == ()
    assert LanguageConfusion().sampling_options({"temperature": 0.3, "top_p": 0.9}) == (("top_p", 0.9),)


def test_options_change_the_calls() -> None:
    (call,) = calls(items_of(with_options(max_tokens=8, temperature=0.7, top_p=0.9)))
    assert (call.max_tokens, call.temperature, call.top_p) == (8, 0.7, 0.9)
    (greedy,) = calls(items_of(REF))
    assert greedy == GenerateCall(prompt="Bonjour", max_tokens=64)


def test_several_answers_share_an_item_and_have_their_own_seeds() -> None:
    three = items_of(with_options(temperature=0.7, n=3))
    assert [(item.doc_id, item.answer) for item in three] == [("3", 0), ("3", 1), ("3", 2)]
    seeds = [call.seed for call in calls(three)]
    assert len(set(seeds)) == 3
    (single,) = items_of(with_options(temperature=0.7))
    assert (single.answer, calls([single])[0].seed) == (None, seeds[0]), "further answers do not change the first"


def test_seeds_depend_on_the_seed_and_the_item_alone() -> None:
    ref = with_options(temperature=0.7, n=2)
    seeds = [call.seed for call in calls(items_of(ref))]
    assert seeds == [call.seed for call in calls(items_of(ref))]
    assert not set(seeds) & {call.seed for call in calls(items_of(ref, seed=8))}
    assert not set(seeds) & {call.seed for call in calls(items_of(ref, doc_id="4"))}
    sampled = with_options(temperature=0.7, n=2, seed=7)
    assert seeds == [call.seed for call in calls(items_of(sampled, seed=99))], (
        "the task's seed takes the place of the sweep's"
    )


def test_greedy_answers_cannot_be_several() -> None:
    with pytest.raises(InvalidRequest, match="n is 3, but with temperature 0 all answers are the same") as raised:
        TASK.sampling_options({"n": 3})
    assert raised.value.param == "n"


def test_items_of_a_task_with_several_answers(tmp_path: Path) -> None:
    (tmp_path / "fr.txt").write_text("Il était une fois\nDemain\n", encoding="utf-8")
    ref = replace(with_options(temperature=1.0, n=2), limit=1)
    task_items = TASK.items(tmp_path, ref, seed=0).items
    assert [(item.doc_id, item.answer) for item in task_items] == [("0", 0), ("0", 1)], (
        "a limit counts texts, not answers"
    )
