"""How text becomes tokens, the same in every engine: prompts, scored continuations and recorded sentences.

Text is encoded as the tokenizer does by default, with the special tokens it puts in front (BOS, say). Those that it
puts behind a text (the EOS of T5's tokenizer, the SEP of BERT's) say that the text is over, and are never used: a
prompt goes on. A chat is written out by the model's template, which puts its special tokens itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, TypeVar

from ampsweep.domain.prompt import Prompt, ScoreText, Split, TokenIds
from ampsweep.errors import InvalidRequest, PromptTooLong, UnsupportedModel
from engine.base import ScoreRequest
from engine.chat_template import Templated, write_chat

logger = logging.getLogger(__name__)

T = TypeVar("T")

_PROBES = ("a", "1", "\u3042")
_LONG = 20_000  # characters, some 100 ms of a slow tokenizer; the change of threads costs a short text more
_CACHED = 1024  # texts to score, so that the options of an item, which come together, are encoded once


class Tokenizer(Templated, Protocol):
    """What is needed of a Hugging Face tokenizer."""

    bos_token_id: int | None
    eos_token_id: int | None
    all_special_ids: list[int]

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the ids of a text."""
        ...

    def get_vocab(self) -> dict[str, int]:
        """Return the id of each token, added ones among them."""
        ...

    def decode(self, ids: list[int]) -> str:
        """Return the text of some tokens."""
        ...


@dataclass(frozen=True, kw_only=True)
class ScoredTokens:
    """The tokens of a scoring request; both parts have at least one.

    `spanned_join` says that a token of the whole text lies on both sides of the join of context and continuation.
    """

    context: tuple[int, ...]
    continuation: tuple[int, ...]
    spanned_join: bool = False


@dataclass(frozen=True, kw_only=True)
class SentenceTokens:
    """The tokens of a sentence to record; the first `special` of them are fed to the model but not counted."""

    ids: tuple[int, ...]
    special: int

    @property
    def counted(self) -> int:
        """How many tokens are recorded."""
        return len(self.ids) - self.special


class TextEncoder:
    """A model's tokenizer as the engines use it. Every token that it returns has a row in the model's embedding."""

    def __init__(self, tokenizer: Tokenizer, *, embedding_rows: int) -> None:
        """Find what the tokenizer puts in front of a text; warn of tokens that the embedding has no rows for.

        Raises UnsupportedModel for a tokenizer that changes a text's tokens where it adds special ones.
        """
        self._tokenizer = tokenizer
        self._rows = embedding_rows
        self._leading = _leading_tokens(tokenizer)
        self._special = frozenset(tokenizer.all_special_ids)
        self._joined = lru_cache(maxsize=_CACHED)(self._encode_joined)
        without_row = sorted((token, text) for text, token in tokenizer.get_vocab().items() if token >= embedding_rows)
        if without_row:
            logger.warning(
                "the model's embedding has %d rows, and none for %d tokens of its tokenizer (%s); texts with them are "
                "refused",
                embedding_rows,
                len(without_row),
                ", ".join(f"{text!r}: {token}" for token, text in without_row[:5]),
            )

    def prompt(self, prompt: Prompt | TokenIds, *, max_tokens: int, strip: bool = False) -> tuple[int, ...]:
        """Return a prompt's tokens, with `strip` without white space at its end; no text is the BOS or EOS token.

        Token ids are taken as they are.

        Raises PromptTooLong (param "prompt") for more than `max_tokens` of them, InvalidRequest for a token without a
        row in the embedding, and as `write_chat` does.
        """
        if isinstance(prompt, TokenIds):
            ids = prompt.ids
        else:
            text = prompt if isinstance(prompt, str) else write_chat(self._tokenizer, prompt)
            ids = (self._text if isinstance(prompt, str) else self._plain)(text.rstrip() if strip else text)
            ids = ids or (self._first_token("prompt"),)
        self._check(ids, "prompt")
        _refuse_long(len(ids), max_tokens, "prompt")
        return ids

    def scored(self, request: ScoreRequest, *, max_tokens: int) -> ScoredTokens:
        """Return the tokens of a context and those to score, divided as `ScoreRequest.split` says.

        Raises InvalidRequest for a continuation that adds no token and for a token without a row in the embedding,
        PromptTooLong (param "context") for more than `max_tokens` together; for a chat also as `write_chat` does.
        """
        own = self._joined((request.context, request.continuation), request.split)
        context, whole = own
        shared = _common_prefix(own)
        border = len(context)
        if request.split == "aligned":
            texts = [own, *(self._joined(other, request.split) for other in request.options)]
            if any(_common_prefix(text) < len(text[0]) for text in texts):
                border = _common_prefix(ids for text in texts for ids in text)
        before, after = whole[:border], whole[border:]
        if request.split == "lm_eval":
            before = context
        if not after:
            raise InvalidRequest("the continuation adds no token to the context", param="continuation")
        if not before:  # the first token spans the join
            before = (self._first_token("context"),)
        self._check(before, "context")
        self._check(after, "continuation")
        _refuse_long(len(before) + len(after), max_tokens, "context")
        return ScoredTokens(context=before, continuation=after, spanned_join=shared < len(context))

    def sentence(self, text: str, *, max_tokens: int) -> SentenceTokens:
        """Return a sentence's first `max_tokens` tokens, the special tokens in front of it among them.

        Raises InvalidRequest (param "corpus") for a token without a row in the embedding.
        """
        ids = self._text(text)[:max_tokens]
        self._check(ids, "corpus", text)
        leading = next((at for at, token in enumerate(ids) if token not in self._special), len(ids))
        return SentenceTokens(ids=ids, special=leading)

    def _encode_joined(self, text: ScoreText, split: Split) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the tokens of a context and those of the context with its continuation."""
        context, continuation = text
        chat = not isinstance(context, str)
        written = context if isinstance(context, str) else write_chat(self._tokenizer, context)
        kept = written if chat and split == "aligned" else written.rstrip()
        continuation = written[len(kept) :] + continuation
        if not kept:
            first = (self._first_token("context"),)
            ids = self._plain(continuation)
            return first, ids if ids[:1] == first else first + ids
        encode = self._plain if chat else self._text
        return encode(kept), encode(kept + continuation)

    def _text(self, text: str) -> tuple[int, ...]:
        """Return a text's tokens and the special ones in front, once where the text itself begins with them."""
        ids = self._plain(text)
        return ids if ids[: len(self._leading)] == self._leading else self._leading + ids

    def _plain(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def _first_token(self, param: str) -> int:
        for token in (self._tokenizer.bos_token_id, self._tokenizer.eos_token_id, *self._leading):
            if token is not None:
                return token
        raise InvalidRequest(f"the {param} is empty, and the tokenizer has no BOS or EOS to stand for it", param=param)

    def _check(self, ids: tuple[int, ...], param: str, text: str | None = None) -> None:
        """Refuse a token that the embedding has no row for: to look it up ends an engine's process."""
        for token in ids:
            if token >= self._rows:
                place = "" if text is None else f" in {text[:60]!r}"
                raise InvalidRequest(
                    f"the {param} holds the token {self._tokenizer.decode([token])!r} (id {token}){place}, but the "
                    f"model's embedding has {self._rows} rows: leave it out of the text, or enlarge the embedding "
                    "(resize_token_embeddings) and train it",
                    param=param,
                )


async def encoded(text: Prompt | TokenIds, encode: Callable[[], T]) -> T:
    """Return what `encode` makes of a text: in a thread where it is long, since an event loop would stand still."""
    if isinstance(text, TokenIds):
        return encode()
    characters = len(text) if isinstance(text, str) else sum(len(message.content) for message in text)
    return encode() if characters < _LONG else await asyncio.to_thread(encode)


def _leading_tokens(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the special tokens that a tokenizer puts in front of a text."""
    for probe in (*_PROBES, *tokenizer.get_vocab()):
        bare = tokenizer.encode(probe, add_special_tokens=False)
        if bare:
            whole = tokenizer.encode(probe)
            for start in range(len(whole) - len(bare) + 1):
                if whole[start : start + len(bare)] == bare:
                    return tuple(whole[:start])
            raise UnsupportedModel("the tokenizer encodes a text otherwise where it adds special tokens", param="model")
    raise UnsupportedModel("the tokenizer makes no tokens of any text", param="model")


def _common_prefix(sequences: Iterable[Sequence[int]]) -> int:
    """Return how many ids all sequences begin with alike."""
    length = 0
    for ids in zip(*sequences, strict=False):
        if len(set(ids)) > 1:
            break
        length += 1
    return length


def _refuse_long(length: int, limit: int, param: str) -> None:
    if length > limit:
        raise PromptTooLong(f"the {param} makes {length} tokens; this engine takes {limit}", param=param)
