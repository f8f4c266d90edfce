"""Variables of chat templates, as requests give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
"""How long a model thinks; its chat template determines which values it reads."""

_FIELDS = ("messages", "tools", "add_generation_prompt", "continue_final_message")
_NEVER = (
    "conversation",
    "chat_template",
    "tokenize",
    "padding",
    "truncation",
    "max_length",
    "return_tensors",
    "return_dict",
    "return_assistant_tokens_mask",
    "tokenizer_kwargs",
)
"""Arguments of the function of Transformers that writes a chat."""


def _variables(given: dict[str, Any]) -> dict[str, Any]:
    for name in given:
        if name in _FIELDS:
            message = "is not a variable of the template; give it as a field of the request"
            raise PydanticCustomError("not_a_variable", message, {"key": name})
        if name in _NEVER:
            message = "is not a variable of the template; leave it out"
            raise PydanticCustomError("not_a_variable", message, {"key": name})
    return given


TemplateVariables = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=100)], Any], Field(max_length=64), AfterValidator(_variables)
]
"""The type of `chat_template_kwargs`: variables of a chat template, by name."""


def template_variables(
    given: Mapping[str, Any] | None,
    *,
    reasoning_effort: ReasoningEffort | None = None,
    documents: Sequence[Mapping[str, str]] | None = None,
) -> dict[str, Any]:
    """Return the variables that the fields of a request mean, as vLLM passes them to the template.

    Args:
        given: The field `chat_template_kwargs`.
        reasoning_effort: The field of this name. It also sets `enable_thinking`, unless `given` has it.
        documents: The field of this name.
    """
    variables = dict(given or {})
    if reasoning_effort is not None:
        variables = {"enable_thinking": reasoning_effort != "none", **variables, "reasoning_effort": reasoning_effort}
    if documents is not None:
        variables["documents"] = [dict(document) for document in documents]
    return variables
