"""Body of a request to answer a chat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ampsweep.domain.generation.chat_template import ReasoningEffort
from ampsweep.domain.generation.prompt import PromptOptions
from ampsweep.domain.generation.structured_outputs import FIELD, StructuredOutputs
from ampsweep.domain.validation import validate
from api.auth.limits import Limits
from api.openai.generation_request import CHAT_MAX_TOKENS, GenerationRequest, MaxTokens
from api.openai.messages import (
    ChatTurn,
    Metadata,
    NamedTool,
    ToolChoice,
    Tools,
    chat_length,
    chat_messages,
    tool_dicts,
)
from api.openai.prompt_fields import ChatFields
from api.openai.token_details import AlternativeCount, TokenDetailFields
from api.openai.tool_calls import CallReader, ForcedCall, forced_call, with_parsing
from api.openai.unsupported import OF_CHATS, Unsupported
from jobs.execution import CompletionCall


class ChatRequest(ChatFields, TokenDetailFields, GenerationRequest):
    """A request to answer a chat. With `logprobs` true, each token has `top_logprobs` alternatives.

    The model's chat template writes `tools` into the prompt, unless `tool_choice` is `none`. With `auto`, calls are
    returned as `tool_calls` if the engine has a parser for those of the model, else in the text. `required`, and the
    name of a function, constrain the answer to calls. With `parallel_tool_calls` false, there is at most one.

    With `continue_final_message` the answer continues the last message instead of beginning a new one;
    `add_generation_prompt`, which begins it, is then false. `chat_template_kwargs` are variables of the chat template,
    such as `enable_thinking`, and so are `documents` and `reasoning_effort`.

    With `return_token_ids` each choice has its `token_ids`, and the response the `prompt_token_ids`; `prompt_logprobs`
    gives the response the `prompt_logprobs`, in vLLM's form. `store`, `metadata`, `modalities`, `service_tier`,
    `verbosity`, `safety_identifier` and `prompt_cache_key`, which clients of OpenAI's API send, have no effect.
    """

    messages: Annotated[tuple[ChatTurn, ...], Field(strict=False, min_length=1, max_length=10_000)]
    max_tokens: MaxTokens | None = None
    max_completion_tokens: MaxTokens | None = None
    logprobs: bool | None = None
    top_logprobs: AlternativeCount | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: ReasoningEffort | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    modalities: Annotated[tuple[Literal["text"], ...], Field(strict=False)] | None = None
    service_tier: Literal["auto", "default"] | None = None
    verbosity: Literal["medium"] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    unsupported: ClassVar[Mapping[str, Unsupported]] = OF_CHATS

    @model_validator(mode="after")
    def _fields_agree(self) -> ChatRequest:
        if self.top_logprobs and not self.logprobs:
            raise PydanticCustomError("no_logprobs", "needs logprobs: true", {"key": "top_logprobs"})
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            message = "is the former name of max_completion_tokens; give only one of them"
            raise PydanticCustomError("two_names", message, {"key": "max_tokens"})
        return self

    @model_validator(mode="after")
    def _choice_is_possible(self) -> ChatRequest:
        self._forced()
        return self

    def _forced(self) -> ForcedCall | None:
        """Return the call that the request forces, if any; raise PydanticCustomError if it is not possible."""
        choice = self.tool_choice
        return forced_call(
            choice,
            choice.function.name if isinstance(choice, NamedTool) else None,
            tool_dicts(self.tools),
            parallel=self.parallel_tool_calls,
            form=getattr(self, FIELD, None) or super().form,
            param="tool_choice.function.name",
        )

    @property
    def form(self) -> StructuredOutputs | None:
        """The form of a forced call, or the one that `response_format` requires; None for any."""
        forced = self._forced()
        return super().form if forced is None else forced.form()

    @property
    def offers_tools(self) -> bool:
        """Whether the model may or must call a tool."""
        return bool(self.tools) and self.tool_choice != "none"

    def call_reader(self) -> CallReader:
        """Return a reader of one answer."""
        return CallReader(forced=self._forced(), parallel=self.parallel_tool_calls is not False)

    def prompt_options(self) -> PromptOptions:
        """Return the options of the prompt."""
        return replace(super().prompt_options(), **self.chat_options(reasoning_effort=self.reasoning_effort))

    def to_call(self, limits: Limits) -> CompletionCall:
        """Return the call of a chat.

        Raises:
            PromptTooLong: The messages together exceed the limit of the server.
            MaxTokensTooLarge: The choices together could exceed the limit of the server.
        """
        messages = chat_messages(self.messages)
        max_tokens = self.max_completion_tokens or self.max_tokens or min(CHAT_MAX_TOKENS, limits.max_tokens)
        tools = tool_dicts(self.tools) if self.offers_tools else ()
        length = chat_length(messages, tools, self.prompt_options().chat_template_kwargs)
        limits.check_prompt(length, param="messages")
        tokens_param = "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
        limits.check_tokens(max_tokens * self.choices_per_prompt, param=tokens_param)
        call = self.call(
            messages,
            max_tokens=max_tokens,
            logprobs=self.top_logprobs or 0,
            prompt_logprobs=self.prompt_logprobs,
            return_token_ids=self.return_token_ids,
            tools=tools,
        )
        return with_parsing(call, stream=bool(self.stream))


def parse_chat(raw: object) -> ChatRequest:
    """Parse the body of a chat; raise InvalidRequest whose `param` is the first invalid field."""
    return validate(ChatRequest, raw)
