"""Prompts: text, chats and token ids, and how the text of a score request is divided into tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class TokenIds:
    """A prompt given as tokens: at least one id of the model's vocabulary. No special token is added in front."""

    ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ChatMessage:
    """One message of a chat. The model's chat template defines the valid roles (system, user, assistant, tool).

    Attributes:
        role: Who wrote the message.
        content: Its text.
        tool_calls: The calls of tools in a message of the assistant, each in the form of OpenAI's API, but with
            the arguments as an object instead of its JSON text.
        tool_call_id: The call that a message of a tool answers.
    """

    role: str
    content: str
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    tool_call_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without fields that are not set."""
        calls = {"tool_calls": list(self.tool_calls)} if self.tool_calls else {}
        answered = {} if self.tool_call_id is None else {"tool_call_id": self.tool_call_id}
        return {"role": self.role, "content": self.content, **calls, **answered}


@dataclass(frozen=True, kw_only=True)
class PromptTokens:
    """A prompt as a model reads it.

    Attributes:
        ids: The token ids.
        token_strs: Each token as it is spelled in the tokenizer's vocabulary, which may differ from its text.
        text: The text of the tokens, special ones included.
        max_model_len: Context length of the model, in tokens; the prompt may be longer.
    """

    ids: tuple[int, ...]
    token_strs: tuple[str, ...]
    text: str
    max_model_len: int


Prompt = str | tuple[ChatMessage, ...]
"""Text to continue, or a chat to answer, which the model's chat template turns into text."""

Tool = Mapping[str, Any]
"""A tool that a model may call, as OpenAI's API describes it; the model's chat template writes it into the prompt."""

TruncationSide = Literal["left", "right"]


@dataclass(frozen=True, kw_only=True)
class PromptOptions:
    """How a prompt becomes tokens, with the names and the meanings of vLLM's request fields.

    All tokens that result are tokens of the prompt, for the scope and the `tokens` of an intervention too: also those
    of a message that the answer continues.

    Attributes:
        add_generation_prompt: Whether a chat ends with the start of the assistant's answer.
        continue_final_message: Whether a chat ends within its last message, which the answer continues; no start of an
            answer is added then.
        chat_template_kwargs: Variables of the chat template, such as `enable_thinking`. Those that it does not read
            have no effect.
        add_special_tokens: Whether to add the special tokens that belong in front of a text, unless it begins with
            them; None adds them to a text, but not to a chat, whose template writes them.
        truncate_prompt_tokens: Number of tokens that are kept of a longer prompt; -1 keeps as many as the engine
            accepts. None rejects a prompt that is too long.
        truncation_side: Where tokens are removed: `left` keeps the last ones, `right` the first ones. None removes
            them on the left, but behind the special tokens in front of the text.
    """

    add_generation_prompt: bool = True
    continue_final_message: bool = False
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    add_special_tokens: bool | None = None
    truncate_prompt_tokens: int | None = None
    truncation_side: TruncationSide | None = None


DEFAULT_OPTIONS = PromptOptions()
ScoreText = tuple[Prompt, str]
"""A context and the continuation to score after it."""

Split = Literal["aligned", "lm_eval"]
"""How the tokens of a text are divided into context and scored tokens; see `engine.base.ScoreRequest`."""
