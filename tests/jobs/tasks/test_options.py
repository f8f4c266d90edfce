from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jobs.tasks.options import task_options
from tests.jobs.cluster import a_cell


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({}, None),
        ({"data": "flores200", "split": "devtest", "limit": 40}, None),
        ({"data": "texts", "split": "dev"}, "data=texts, split=dev"),
        ({"chat": True}, "chat=true"),
        (
            {"chat": True, "chat_template_kwargs": (("effort", '"low"'), ("enable_thinking", "false"))},
            'chat=true, effort="low", enable_thinking=false',
        ),
        ({"sampling": (("n", 5), ("seed", 123_456_789), ("temperature", 1.0))}, "n=5, seed=123456789, temperature=1"),
    ],
)
def test_only_what_differs_from_the_defaults_of_the_task_is_named(changes: dict[str, Any], options: str | None) -> None:
    assert task_options(replace(a_cell(task="generation").task, **changes)) == options
