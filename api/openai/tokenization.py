"""Bodies of requests for the tokens of a prompt and the text of tokens, in the schema of vLLM's server."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ampsweep.domain.generation.prompt import PromptOptions, TokenIds
from ampsweep.domain.generation.sampling import TokenId
from ampsweep.domain.validation import Name, StrictModel
from api.auth.limits import Limits
from api.openai.messages import ChatTurn, Tools, chat_length, chat_messages, tool_dicts
from api.openai.prompt_fields import ChatFields
from jobs.execution import TokenizeCall


class TokenizeRequest(ChatFields):
    """A prompt to convert to tokens: the text `prompt`, or the chat `messages`.

    `add_special_tokens` adds the tokens that belong in front of a text, once; by default it is true for a text and
    false for a chat, whose template writes them. With `add_generation_prompt` a chat ends with the start of the
    assistant's answer, with `continue_final_message` within its last message; the template writes its `tools`.
    `return_token_strs` adds each token as it is spelled in the vocabulary. `model` may be omitted if the server has
    only one.
    """

    model: Name | None = None
    prompt: str | None = None
    messages: Annotated[tuple[ChatTurn, ...], Field(strict=False, min_length=1, max_length=10_000)] | None = None
    tools: Tools | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None

    @model_validator(mode="after")
    def _has_one_prompt(self) -> TokenizeRequest:
        if self.prompt is not None and self.messages is not None:
            message = "cannot be combined with prompt; give only one of them"
            raise PydanticCustomError("two_prompts", message, {"key": "messages"})
        if self.prompt is None and self.messages is None:
            raise PydanticCustomError("no_prompt", "is required, or messages", {"key": "prompt"})
        for field in (*ChatFields.model_fields, "tools"):
            if self.messages is None and getattr(self, field) is not None:
                message = "has no effect without messages; leave it out"
                raise PydanticCustomError("no_chat", message, {"key": field})
        return self

    def to_call(self, model: str, limits: Limits) -> TokenizeCall:
        """Return the call to a model; raise PromptTooLong if the prompt exceeds the limit of the server."""
        if self.messages is None:
            assert self.prompt is not None, "validated"
            limits.check_prompt(len(self.prompt), param="prompt")
            options = PromptOptions(add_special_tokens=self.add_special_tokens)
            return TokenizeCall(model=model, prompt=self.prompt, options=options)
        chat, tools = chat_messages(self.messages), tool_dicts(self.tools)
        options = PromptOptions(add_special_tokens=self.add_special_tokens, **self.chat_options())
        limits.check_prompt(chat_length(chat, tools, options.chat_template_kwargs), param="messages")
        return TokenizeCall(model=model, prompt=chat, tools=tools, options=options)


class DetokenizeRequest(StrictModel):
    """Tokens to convert to text. `model` may be omitted if the server has only one."""

    model: Name | None = None
    tokens: Annotated[tuple[TokenId, ...], Field(strict=False, max_length=1_000_000)]

    def to_call(self, model: str, limits: Limits) -> TokenizeCall:
        """Return the call to a model; raise PromptTooLong if there are more tokens than the limit of the server."""
        limits.check_prompt(len(self.tokens), param="tokens")
        return TokenizeCall(model=model, prompt=TokenIds(self.tokens))
