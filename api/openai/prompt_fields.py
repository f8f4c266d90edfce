"""Fields of requests that say how a prompt becomes tokens, with the names and the meanings that they have in vLLM."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ampsweep.domain.generation.chat_template import ReasoningEffort, TemplateVariables, template_variables
from ampsweep.domain.generation.prompt import PromptOptions, TruncationSide
from ampsweep.domain.validation import StrictModel

Documents = Annotated[tuple[dict[str, str], ...], Field(strict=False, max_length=1000)]


class PromptFields(StrictModel):
    """Fields of all prompts.

    `add_special_tokens` adds the tokens that belong in front of a text, once; by default it is true for a text and
    false for a chat, whose template writes them. `truncate_prompt_tokens` keeps so many tokens of a longer prompt, by
    default the last ones and the special tokens in front; -1 keeps as many as the model accepts. `truncation_side` is
    where tokens are removed.
    """

    add_special_tokens: bool | None = None
    truncate_prompt_tokens: Annotated[int, Field(ge=-1, lt=2**63)] | None = None
    truncation_side: TruncationSide | None = None

    @model_validator(mode="after")
    def _truncation(self) -> PromptFields:
        if self.truncate_prompt_tokens == 0:
            message = "must be at least 1, or -1 for as many as the model accepts"
            raise PydanticCustomError("no_tokens", message, {"key": "truncate_prompt_tokens"})
        if self.truncation_side is not None and self.truncate_prompt_tokens is None:
            message = "has no effect without truncate_prompt_tokens; leave it out"
            raise PydanticCustomError("no_truncation", message, {"key": "truncation_side"})
        return self

    def prompt_options(self) -> PromptOptions:
        """Return the options that the fields mean."""
        return PromptOptions(
            add_special_tokens=self.add_special_tokens,
            truncate_prompt_tokens=self.truncate_prompt_tokens,
            truncation_side=self.truncation_side,
        )


class ChatFields(StrictModel):
    """Fields of chats.

    With `continue_final_message` the answer continues the last message instead of beginning a new one, and
    `add_generation_prompt`, which begins it, is false by default. `chat_template_kwargs` are variables of the chat
    template, such as `enable_thinking`; `documents` is one too.
    """

    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: TemplateVariables | None = None
    documents: Documents | None = None

    @model_validator(mode="after")
    def _one_end(self) -> ChatFields:
        if self.continue_final_message and self.add_generation_prompt:
            message = "cannot be combined with continue_final_message, which continues the last message; leave it out"
            raise PydanticCustomError("two_ends", message, {"key": "add_generation_prompt"})
        return self

    def chat_options(self, *, reasoning_effort: ReasoningEffort | None = None) -> dict[str, Any]:
        """Return the fields of `PromptOptions` that are about chats."""
        return {
            "add_generation_prompt": self.add_generation_prompt is not False,
            "continue_final_message": bool(self.continue_final_message),
            "chat_template_kwargs": template_variables(
                self.chat_template_kwargs, reasoning_effort=reasoning_effort, documents=self.documents
            ),
        }
