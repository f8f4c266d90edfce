"""How text becomes tokens, the same in every engine: prompts, scored continuations and recorded sentences.

Text is encoded as the tokenizer does by default, with the special tokens it puts in front (BOS, say). A chat is
written out by the model's template, which puts them itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ampsweep.errors import InvalidRequest, PromptTooLong
from engine.chat import Templated, write_chat
from engine.protocol import Prompt


class Tokenizer(Templated, Protocol):
    """What is needed of a Hugging Face tokenizer."""

    bos_token_id: int | None
    eos_token_id: int | None
    all_special_ids: list[int]

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the ids of a text."""
        ...


@dataclass(frozen=True, kw_only=True)
class ScoredTokens:
    """The tokens of a scoring request; both parts have at least one."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SentenceTokens:
    """The tokens of a sentence to record; the first `special` of them are fed to the model but not counted."""

    ids: tuple[int, ...]
    special: int

    @property
    def counted(self) -> int:
        """How many tokens are recorded."""
        return len(self.ids) - self.special


def encode_prompt(tokenizer: Tokenizer, prompt: Prompt, *, max_tokens: int) -> tuple[int, ...]:
    """Return a prompt's tokens; an empty text is the model's BOS or EOS token.

    Raises PromptTooLong (param "prompt") for more than `max_tokens` of them, and as `write_chat` does.
    """
    if isinstance(prompt, str):
        ids = tuple(tokenizer.encode(prompt)) or (_first_token(tokenizer, "prompt"),)
    else:
        ids = tuple(tokenizer.encode(write_chat(tokenizer, prompt), add_special_tokens=False))
    _refuse_long(len(ids), max_tokens, "prompt")
    return ids


def split_scored(tokenizer: Tokenizer, context: Prompt, continuation: str, *, max_tokens: int) -> ScoredTokens:
    """Return the tokens of a context and of the continuation to score, as lm-eval divides them.

    White space at the end of a text moves to the continuation first; a chat keeps what its template ends with. The
    continuation's tokens are those of encode(context + continuation) after the first len(encode(context)). An empty
    context is the BOS or EOS token.

    Raises InvalidRequest for a continuation that adds no token, PromptTooLong (param "context") for more than
    `max_tokens` together; for a chat also as `write_chat` does.
    """
    if isinstance(context, str):
        kept = context.rstrip()
        continuation = context[len(kept) :] + continuation
    else:
        kept = write_chat(tokenizer, context)
    if kept:
        special = isinstance(context, str)
        before = tuple(tokenizer.encode(kept, add_special_tokens=special))
        after = tuple(tokenizer.encode(kept + continuation, add_special_tokens=special))[len(before) :]
    else:
        before = (_first_token(tokenizer, "context"),)
        after = tuple(tokenizer.encode(continuation, add_special_tokens=False))
    if not after:
        raise InvalidRequest("the continuation adds no token to the context", param="continuation")
    _refuse_long(len(before) + len(after), max_tokens, "context")
    return ScoredTokens(context=before, continuation=after)


def encode_sentence(tokenizer: Tokenizer, text: str, *, max_tokens: int) -> SentenceTokens:
    """Return a sentence's first `max_tokens` tokens, the special tokens in front of it among them."""
    ids = tuple(tokenizer.encode(text))[:max_tokens]
    special = set(tokenizer.all_special_ids)
    leading = next((at for at, token in enumerate(ids) if token not in special), len(ids))
    return SentenceTokens(ids=ids, special=leading)


def _first_token(tokenizer: Tokenizer, param: str) -> int:
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return token
    raise InvalidRequest(f"the {param} is empty, and the tokenizer has no BOS or EOS to stand for it", param=param)


def _refuse_long(length: int, limit: int, param: str) -> None:
    if length > limit:
        raise PromptTooLong(f"the {param} makes {length} tokens; this engine takes {limit}", param=param)
