from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from ampsweep.documents import parse_yaml
from ampsweep.domain.generation.prompt import ChatMessage
from ampsweep.domain.languages.codes import FLORES_CODES
from ampsweep.domain.languages.names import ENGLISH_NAMES
from ampsweep.errors import UnknownName
from jobs.cell import Cell
from jobs.instruction import Instruction, instruction_for
from jobs.planning.catalog import Catalog
from jobs.results.schema import cell_columns
from jobs.tasks.loading import load_items
from jobs.tasks.requests import GenerateCall, ScoreCall
from tests.jobs.cluster import planned, write_jsonl

SCRIPTS = {"ja": "語", "zh": "中", "ru": "р", "ta": "த", "th": "ไ"}
"""A letter that the instruction in each language with a script of its own has."""
FRENCH = Instruction(method="prompt_en", language="fr", text="Answer only in French.")
USER, ASSISTANT, SYSTEM = (ChatMessage(role=role, content=f"{role} says") for role in ("user", "assistant", "system"))


@pytest.mark.parametrize("language", FLORES_CODES)
def test_every_language_of_the_paper_has_both_instructions(language: str) -> None:
    english, native = (instruction_for(language, method) for method in ("prompt_en", "prompt_native"))
    assert ENGLISH_NAMES[language] in english.text
    assert (english.text == native.text) is (language == "en")
    assert SCRIPTS.get(language, "") in native.text
    assert all(text == text.strip() and "\n" not in text for text in (english.text, native.text))


def test_every_language_of_the_file_is_asked_for_by_its_english_name() -> None:
    languages = parse_yaml(files("jobs").joinpath("instructions.yaml").read_text(encoding="utf-8"))
    assert {"de", "es", "ar", "hi", "ko", "no"} < set(languages)
    for language in languages:
        english, native = (instruction_for(language, method).text for method in ("prompt_en", "prompt_native"))
        assert english == f"Answer only in {ENGLISH_NAMES[language]}."
        assert native != english or language == "en"


def test_a_language_with_a_name_has_an_instruction_in_english() -> None:
    assert instruction_for("zu", "prompt_en").text == "Answer only in Zulu."
    with pytest.raises(UnknownName, match="language with an instruction"):
        instruction_for("zu", "prompt_native")
    with pytest.raises(UnknownName):
        instruction_for("xx", "prompt_en")


def test_a_language_without_an_instruction_is_an_error_of_the_spec(catalog: Catalog) -> None:
    with pytest.raises(UnknownName, match=r"unknown language with an instruction 'zu'; known: ar, bg, bn") as caught:
        instruction_for("zu", "prompt_native", param="interventions.baselines")
    assert caught.value.param == "interventions.baselines"
    assert catalog.corpora
    (catalog.corpora["small"] / "zu.txt").write_text("Umusho.\n")
    interventions = {"languages": ["zu"], "op": "scale", "factors": [2], "baselines": ["prompt_native"]}
    neurons = {"method": "lape", "corpus": "small", "languages": ["zu", "fr"]}
    with pytest.raises(UnknownName, match="'zu'"):
        planned(catalog, neurons=neurons, interventions=interventions, tasks=[{"name": "xcopa", "languages": ["it"]}])


def test_the_instruction_stands_before_a_text_and_in_the_last_message_of_the_user() -> None:
    assert FRENCH.before("What is tea?") == "Answer only in French.\n\nWhat is tea?"
    chat = FRENCH.before((SYSTEM, USER, ASSISTANT, USER))
    instructed = ChatMessage(role="user", content="Answer only in French.\n\nuser says")
    assert chat == (SYSTEM, USER, ASSISTANT, instructed)
    assert FRENCH.before((SYSTEM,)) == (ChatMessage(role="user", content=FRENCH.text), SYSTEM)


def prompted(catalog: Catalog, **task: Any) -> list[Cell]:
    interventions = {"languages": ["fr"], "op": "scale", "factors": [2], "baselines": ["prompt_en", "prompt_native"]}
    return [cell for cell in planned(catalog, interventions=interventions, tasks=[task]) if cell.intervention is None]


def test_scored_contexts_begin_with_the_instruction_and_options_share_them(catalog: Catalog) -> None:
    baseline, english, native = prompted(catalog, name="xcopa", languages=["it"])
    plain, instructed = (load_items(cell, catalog).items[0].calls for cell in (baseline, english))
    for before, after in zip(plain, instructed, strict=True):
        assert isinstance(before, ScoreCall)
        assert isinstance(after, ScoreCall)
        assert after.context == f"Answer only in French.\n\n{before.context}"
        assert after.continuation == before.continuation
        assert after.options == tuple(
            (f"Answer only in French.\n\n{context}", text) for context, text in before.options
        )
    (call, *_) = load_items(native, catalog).items[0].calls
    assert isinstance(call, ScoreCall)
    assert str(call.context).startswith("Répondez uniquement en français.\n\n")


def test_in_a_chat_the_instruction_is_part_of_the_users_message(catalog: Catalog) -> None:
    assert catalog.data is not None
    (catalog.data / "own").mkdir()
    write_jsonl(catalog.data / "own" / "en.jsonl", [{"text": "What is tea?"}])
    task: dict[str, Any] = {"name": "generation", "languages": ["en"], "data": "own"}
    for chat, prompt in (
        (False, "Answer only in French.\n\nWhat is tea?"),
        (True, (ChatMessage(role="user", content="Answer only in French.\n\nWhat is tea?"),)),
    ):
        _, english, _ = prompted(catalog, **task, chat=chat)
        ((call,),) = (item.calls for item in load_items(english, catalog).items)
        assert isinstance(call, GenerateCall)
        assert call.prompt == prompt


def test_each_target_and_word_is_a_cell_of_its_own_beside_the_baseline(catalog: Catalog) -> None:
    interventions = {"languages": ["fr", "tr"], "op": "scale", "factors": [2], "baselines": ["prompt_en"]}
    cells = planned(catalog, interventions=interventions, tasks=[{"name": "xcopa", "languages": ["it"]}])
    columns = [cell_columns(cell) for cell in cells]
    assert [(row["method"], row["target_language"], row["factor"]) for row in columns] == [
        (None, None, None),
        ("prompt_en", "fr", None),
        ("prompt_en", "tr", None),
        ("neurons", "fr", 2.0),
        ("neurons", "tr", 2.0),
    ]
    assert len({cell.id for cell in cells}) == 5
    for cell in cells:
        again = Cell.from_dict(cell.to_dict())
        assert (again, again.id) == (cell, cell.id)


def test_the_file_is_part_of_the_distribution() -> None:
    pyproject = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert '"instructions.yaml"' in pyproject
