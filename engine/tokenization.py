"""Tokenizes prompts, scored continuations and recorded sentences, in the same way for every engine.

Text is encoded with the special tokens that the tokenizer puts in front of it by default (for example BOS). Those that
it appends (EOS in T5's tokenizer, SEP in BERT's) mark the end of a text and are never used, because a prompt is
continued. A chat is formatted by the model's chat template, which writes the special tokens itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TypeVar

from ampsweep.domain.generation.prompt import DEFAULT_OPTIONS, Prompt, PromptOptions, ScoreText, Split, TokenIds, Tool
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.errors import InvalidRequest, PromptTooLong, UnsupportedModel
from ampsweep.hashing import canonical_json
from engine.base import GenerateRequest, ScoreRequest
from engine.chat_template import write_chat
from engine.sampling import bad_word_tokens, check_allowed_tokens, check_room, check_special_tokens, check_token_ids
from engine.tokenizer import Tokenizer

log = logging.getLogger(__name__)

T = TypeVar("T")

_SAMPLE_TEXTS = ("a", "1", "\u3042")
_TOKEN_CHARACTERS = 32  # of a text for each token that is wanted of its start; few tokens have more than 16
_THREAD_CHARACTERS = 20_000  # takes a slow tokenizer about 100 ms; for shorter texts a thread would cost more
_CACHE_SIZE = 1024  # texts to score; the options of an item are scored together, and each is encoded once


@dataclass(frozen=True, kw_only=True)
class ScoredTokens:
    """The tokens of a scoring request; both parts have at least one token.

    `spanned_join` tells whether a token of the whole text spans the join of context and continuation.
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
    """Encodes text for one model. Every token that it returns has a row in the model's embedding."""

    def __init__(self, tokenizer: Tokenizer, *, embedding_rows: int) -> None:
        """Determine the special tokens in front of a text, and log a warning if tokens have no embedding row.

        Args:
            tokenizer: The model's tokenizer.
            embedding_rows: Number of rows of the model's input embedding.

        Raises:
            UnsupportedModel: The tokenizer encodes a text differently if it adds special tokens, or encodes every text
                as no tokens.
        """
        self._tokenizer = tokenizer
        self._rows = embedding_rows
        self._leading = _leading_tokens(tokenizer)
        self._special = frozenset(tokenizer.all_special_ids)
        self._joined = lru_cache(maxsize=_CACHE_SIZE)(self._encode_joined)
        without_row = sorted((token, text) for text, token in tokenizer.get_vocab().items() if token >= embedding_rows)
        if without_row:
            log.warning(
                "the model's embedding has %d rows and none for %d tokens of its tokenizer (%s); texts that contain "
                "them are rejected",
                embedding_rows,
                len(without_row),
                ", ".join(f"{text!r}: {token}" for token, text in without_row[:5]),
            )

    def prompt(
        self,
        prompt: Prompt | TokenIds,
        *,
        max_tokens: int,
        strip: bool = False,
        tools: Sequence[Tool] = (),
        options: PromptOptions = DEFAULT_OPTIONS,
    ) -> tuple[int, ...]:
        """Return the tokens of a prompt.

        Args:
            prompt: A text or a chat; token ids are used unchanged.
            max_tokens: Maximum number of tokens.
            strip: Remove white space at the end first.
            tools: The tools that the assistant of a chat may call.
            options: How the prompt becomes tokens.

        Returns:
            The token ids; for an empty text only the BOS token, or the EOS token if there is no BOS token.

        Raises:
            PromptTooLong: There are more than `max_tokens` tokens (param "prompt").
            InvalidRequest: A token has no row in the embedding, the chat cannot be formatted (see `write_chat`), an
                empty text has neither BOS nor EOS, or more tokens are to be kept than the engine accepts.
        """
        ids = self._encode(prompt, strip=strip, tools=tools, options=options) or (self._first_token("prompt"),)
        leading = len(self._leading) if self._adds_special_tokens(prompt, options) else 0
        ids = _truncated(ids, options, leading=leading, max_tokens=max_tokens)
        self._check(ids, "prompt")
        _check_length(len(ids), max_tokens, "prompt")
        return ids

    def tokens(
        self, prompt: Prompt | TokenIds, *, tools: Sequence[Tool] = (), options: PromptOptions = DEFAULT_OPTIONS
    ) -> tuple[int, ...]:
        """Return the tokens of a prompt of any length; see `PromptEncoder.tokens`."""
        return self._encode(prompt, strip=False, tools=tools, options=options)

    def token_strs(self, ids: Sequence[int]) -> tuple[str, ...]:
        """Return each token as the vocabulary writes it, empty for an id that it does not have."""
        return tuple(text or "" for text in self._tokenizer.convert_ids_to_tokens(list(ids)))

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, special ones included.

        Raises:
            InvalidRequest: The model has no such token; `param` names its position in `tokens`.
        """
        for index, token in enumerate(ids):
            if token >= self._rows:
                message = f"tokens.{index}: the model has {self._rows} tokens, and none with the id {token}"
                raise InvalidRequest(f"{message}; leave it out", param=f"tokens.{index}")
        return self._tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def check_sampling(self, sampling: SamplingParams, *, prompt_tokens: int, max_model_len: int) -> None:
        """Raise InvalidRequest about a sampling parameter that the model cannot follow, see `engine.sampling`."""
        check_token_ids(sampling, vocabulary=self._rows)
        check_room(sampling, prompt_tokens=prompt_tokens, max_model_len=max_model_len)
        bad_words = bad_word_tokens(self._tokenizer, sampling.bad_words)
        eos = self._tokenizer.eos_token_id
        check_allowed_tokens(sampling, end_tokens=() if eos is None else (eos,), bad_words=bad_words)
        check_special_tokens(sampling, self._tokenizer)

    def scored(self, request: ScoreRequest, *, max_tokens: int) -> ScoredTokens:
        """Return the tokens of a context and of its continuation, divided as `ScoreRequest.split` says.

        Args:
            request: The scoring request.
            max_tokens: Maximum number of tokens of both together.

        Raises:
            PromptTooLong: There are more than `max_tokens` tokens (param "context").
            InvalidRequest: The continuation adds no token, a token has no row in the embedding, or the chat cannot be
                formatted (see `write_chat`).
        """
        joined = partial(self._joined, split=request.split, variables=canonical_json(request.chat_template_kwargs))
        encoded_text = joined((request.context, request.continuation))
        context, whole = encoded_text
        spanned_join = _spans_join(encoded_text)
        border = len(context)
        if request.split == "aligned":
            options = [encoded_text, *map(joined, request.options)]
            if any(map(_spans_join, options)):
                border = _common_prefix(ids for option in options for ids in option)
        before, after = whole[:border], whole[border:]
        if request.split == "lm_eval":
            before = context
        if not after:
            raise InvalidRequest("the continuation adds no token to the context", param="continuation")
        if not before:  # the first token spans the join
            before = (self._first_token("context"),)
        self._check(before, "context")
        self._check(after, "continuation")
        _check_length(len(before) + len(after), max_tokens, "context")
        return ScoredTokens(context=before, continuation=after, spanned_join=spanned_join)

    def sentence(self, text: str, *, max_tokens: int) -> SentenceTokens:
        """Return the first `max_tokens` tokens of a sentence, including the special tokens in front of it.

        Only the start of a text without line breaks, which may be a whole book, is tokenized.

        Raises:
            InvalidRequest: A token has no row in the embedding (param "corpus").
        """
        start = text[: max_tokens * _TOKEN_CHARACTERS]
        ids = self._text(start)
        if len(start) < len(text) and len(ids) < 2 * max_tokens:  # those at the end of the start may not be the text's
            ids = self._text(text)
        ids = ids[:max_tokens]
        self._check(ids, "corpus", text)
        leading = next((index for index, token in enumerate(ids) if token not in self._special), len(ids))
        return SentenceTokens(ids=ids, special=leading)

    def _encode_joined(
        self, text: ScoreText, *, split: Split, variables: str
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the tokens of a context, and those of the context followed by its continuation.

        `variables` are those of the chat template as JSON, because the result is remembered for its arguments.
        """
        context, continuation = text
        is_chat = not isinstance(context, str)
        options = PromptOptions(chat_template_kwargs=json.loads(variables))
        context_text = context if isinstance(context, str) else write_chat(self._tokenizer, context, options=options)
        before = context_text if is_chat and split == "aligned" else context_text.rstrip()
        after = context_text[len(before) :] + continuation
        if not before:
            first = (self._first_token("context"),)
            ids = self._plain(after)
            return first, ids if ids[:1] == first else first + ids
        encode = self._plain if is_chat else self._text
        return encode(before), encode(before + after)

    def _encode(
        self, prompt: Prompt | TokenIds, *, strip: bool, tools: Sequence[Tool], options: PromptOptions
    ) -> tuple[int, ...]:
        if isinstance(prompt, TokenIds):
            return prompt.ids
        text = prompt if isinstance(prompt, str) else write_chat(self._tokenizer, prompt, tools=tools, options=options)
        encode = self._text if self._adds_special_tokens(prompt, options) else self._plain
        return encode(text.rstrip() if strip else text)

    @staticmethod
    def _adds_special_tokens(prompt: Prompt | TokenIds, options: PromptOptions) -> bool:
        if isinstance(prompt, TokenIds):
            return False
        return isinstance(prompt, str) if options.add_special_tokens is None else options.add_special_tokens

    def _text(self, text: str) -> tuple[int, ...]:
        """Return a text's tokens with the special tokens in front, only once if the text itself begins with them."""
        ids = self._plain(text)
        return ids if ids[: len(self._leading)] == self._leading else self._leading + ids

    def _plain(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def _first_token(self, param: str) -> int:
        for token in (self._tokenizer.bos_token_id, self._tokenizer.eos_token_id, *self._leading):
            if token is not None:
                return token
        raise InvalidRequest(
            f"the {param} is empty, and the tokenizer has no BOS or EOS token to use instead; give a text", param=param
        )

    def _check(self, ids: tuple[int, ...], param: str, text: str | None = None) -> None:
        """Reject a token without a row in the embedding, because looking it up would end the engine's process."""
        if max(ids, default=-1) < self._rows:
            return
        token = next(token for token in ids if token >= self._rows)
        token_text = self._tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        source = "" if text is None else f" in {text[:60]!r}"
        raise InvalidRequest(
            f"the {param} contains the token {token_text!r} (id {token}){source}, but the "
            f"model's embedding has {self._rows} rows; remove it from the text, or enlarge the embedding "
            "(resize_token_embeddings) and train it",
            param=param,
        )


async def encoded(text: Prompt | TokenIds, encode: Callable[[], T], *, tools: Sequence[object] = ()) -> T:
    """Call `encode`, in a thread if the text is long, so that it does not block the event loop.

    Args:
        text: The text that `encode` tokenizes.
        encode: A call without arguments.
        tools: The tools of a chat, and the variables of its template. They are not measured: a chat with any is always
            tokenized in a thread.

    Returns:
        The result of `encode`.
    """
    if isinstance(text, TokenIds):
        return encode()
    characters = len(text) if isinstance(text, str) else sum(len(message.content) for message in text)
    return encode() if characters < _THREAD_CHARACTERS and not tools else await asyncio.to_thread(encode)


async def encoded_prompt(encoder: TextEncoder, request: GenerateRequest, *, max_tokens: int) -> tuple[int, ...]:
    """Return the tokens of the prompt of a request; see `TextEncoder.prompt`."""
    options = request.options
    encode = partial(
        encoder.prompt, request.prompt, max_tokens=max_tokens, strip=request.strip, tools=request.tools, options=options
    )
    return await encoded(request.prompt, encode, tools=(*request.tools, *options.chat_template_kwargs))


def _leading_tokens(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the special tokens that a tokenizer puts in front of a text."""
    for text in (*_SAMPLE_TEXTS, *tokenizer.get_vocab()):
        bare = tokenizer.encode(text, add_special_tokens=False)
        if bare:
            whole = tokenizer.encode(text, add_special_tokens=True)
            for start in range(len(whole) - len(bare) + 1):
                if whole[start : start + len(bare)] == bare:
                    return tuple(whole[:start])
            raise UnsupportedModel(
                "the tokenizer is not supported: it encodes a text differently if it adds special tokens", param="model"
            )
    raise UnsupportedModel("the tokenizer is not supported: it encodes every text as no tokens", param="model")


def _spans_join(encoded_text: tuple[tuple[int, ...], tuple[int, ...]]) -> bool:
    """Return whether the tokens of a whole text do not begin with those of its context."""
    context, whole = encoded_text
    return whole[: len(context)] != context


def _common_prefix(sequences: Iterable[Sequence[int]]) -> int:
    """Return the length of the longest common prefix of all sequences."""
    length = 0
    for ids in zip(*sequences, strict=False):
        if len(set(ids)) > 1:
            break
        length += 1
    return length


def _truncated(ids: tuple[int, ...], options: PromptOptions, *, leading: int, max_tokens: int) -> tuple[int, ...]:
    """Return the tokens that `truncate_prompt_tokens` keeps.

    Args:
        ids: The tokens of the prompt.
        options: How many are kept, and which.
        leading: How many special tokens have been added in front. Without a `truncation_side` they are kept.
        max_tokens: Maximum number of tokens, which -1 stands for.

    Raises:
        InvalidRequest: More tokens are to be kept (param "truncate_prompt_tokens").
    """
    count = options.truncate_prompt_tokens
    if count is None:
        return ids
    if count > max_tokens:
        message = f"truncate_prompt_tokens is {count}, but this engine accepts prompts of at most {max_tokens} tokens"
        raise InvalidRequest(f"{message}; lower it, or give -1", param="truncate_prompt_tokens")
    count = max_tokens if count < 0 else count
    if len(ids) <= count:
        return ids
    if options.truncation_side == "right":
        return ids[:count]
    kept = leading if options.truncation_side is None and leading < count else 0
    return ids[:kept] + ids[len(ids) - count + kept :]


def _check_length(length: int, limit: int, param: str) -> None:
    if length > limit:
        raise PromptTooLong(
            f"the {param} has {length} tokens, but this engine accepts at most {limit}; shorten it", param=param
        )
