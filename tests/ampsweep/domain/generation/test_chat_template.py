"""Variables of chat templates: which names a request can give, and what its other fields add."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from transformers import PreTrainedTokenizerFast

from ampsweep.domain.generation.chat_template import TemplateVariables, template_variables

TYPE: TypeAdapter[dict[str, Any]] = TypeAdapter(TemplateVariables)


def test_a_variable_has_any_name_and_value() -> None:
    variables = {"enable_thinking": False, "builtin_tools": ["code"], "date_string": "1 May", "depth": {"n": None}}
    assert TYPE.validate_python(variables) == variables


def test_no_argument_of_transformers_but_the_documents_is_a_variable() -> None:
    """It would change what the function returns instead of what the template writes."""
    parameters = inspect.signature(PreTrainedTokenizerFast.apply_chat_template).parameters.values()
    names = {each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD} - {"self", "documents"}
    assert len(names) > 10
    for name in (*names, "messages"):
        with pytest.raises(ValidationError, match="is not a variable of the template"):
            TYPE.validate_python({"a": 1, name: True})


def test_the_reasoning_effort_turns_thinking_on_or_off_unless_the_request_does() -> None:
    assert template_variables(None) == {}
    assert template_variables({"a": 1}, reasoning_effort="none") == {
        "a": 1,
        "reasoning_effort": "none",
        "enable_thinking": False,
    }
    given = {"enable_thinking": False, "reasoning_effort": "low"}
    assert template_variables(given, reasoning_effort="high") == {"enable_thinking": False, "reasoning_effort": "high"}
    assert given["reasoning_effort"] == "low", "not changed"
    assert template_variables(None, documents=({"title": "D"},)) == {"documents": [{"title": "D"}]}
