"""The task that a page shows how to write: it asks, and it scores."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jobs.tasks.requests import Answer
from tests.docs.pages import DOCS, blocks

PAGE = DOCS / "bring-a-task.md"


def test_the_task_on_the_page_asks_and_scores(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    (block,) = blocks(PAGE, "python")
    exec(compile(block.text, str(PAGE), "exec"), names)
    task = names["YesNo"]()
    rows = [
        {"question": "Is it so?", "label": 0},
        {"question": "Is it not?", "label": 1},
        {"question": "?", "label": 1},
    ]
    (tmp_path / "fr.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert task.languages(tmp_path, None) == {"fr"}
    ref = SimpleNamespace(data_language="fr", split=None, limit=2)
    found = task.items(tmp_path, ref, seed=0)
    assert [[call.continuation for call in item.calls] for item in found.items] == [[" oui", " non"]] * 2
    yes, no = Answer(logprobs=(-0.1,)), Answer(logprobs=(-2.0,))
    samples = [task.sample(item, (yes, no)) for item in found.items]
    assert [(sample.prediction, sample.gold, sample.correct) for sample in samples] == [
        ("0", "0", True),
        ("0", "1", False),
    ]
