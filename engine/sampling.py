"""Checks sampling parameters against a model's vocabulary, its tokenizer, and the context that a prompt leaves."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ampsweep.domain.generation.sampling import SamplingParams, token_ids
from ampsweep.domain.generation.structured_outputs import FIELD
from ampsweep.errors import InvalidRequest
from engine.tokenizer import Encoder, Tokenizer

_MAX_BAD_TOKENS = 1024  # vLLM's limit on a GPU, where its worker ends if there are more


def check_token_ids(sampling: SamplingParams, *, vocabulary: int) -> None:
    """Raise InvalidRequest about the first token id that is not below `vocabulary`, the number of tokens."""
    for path, token in token_ids(sampling):
        if not 0 <= token < vocabulary:
            message = f"{path}: the model's vocabulary has {vocabulary} tokens, and none with the id {token}"
            raise InvalidRequest(f"{message}; name an id from 0 to {vocabulary - 1}", param=path)


def check_room(sampling: SamplingParams, *, prompt_tokens: int, max_model_len: int) -> None:
    """Raise InvalidRequest if the context has room for fewer than `min_tokens` tokens after the prompt."""
    room = max_model_len - prompt_tokens
    if sampling.min_tokens > room:
        message = f"min_tokens is {sampling.min_tokens}, but the context of {max_model_len} tokens has room for {room}"
        raise InvalidRequest(
            f"{message} after the {prompt_tokens} tokens of the prompt; lower it, or shorten the prompt",
            param="min_tokens",
        )


def check_allowed_tokens(
    sampling: SamplingParams, *, end_tokens: Collection[int], bad_words: Sequence[Sequence[int]]
) -> None:
    """Raise InvalidRequest if no token of `allowed_token_ids` may come first, so that another one would.

    Args:
        sampling: The sampling parameters.
        end_tokens: The end-of-sequence tokens of the model.
        bad_words: The tokens of each text of `bad_words`.
    """
    if sampling.allowed_token_ids is None:
        return
    excluded = {word[0] for word in bad_words if len(word) == 1}
    if sampling.min_tokens:
        excluded.update(end_tokens, sampling.stop_token_ids)
    if excluded.issuperset(sampling.allowed_token_ids):
        message = "allowed_token_ids: min_tokens and bad_words exclude all of these tokens, and no other is allowed"
        raise InvalidRequest(f"{message}; allow another token, or lower min_tokens", param="allowed_token_ids")


def check_special_tokens(sampling: SamplingParams, tokenizer: Tokenizer) -> None:
    """Raise InvalidRequest if a text is to have no spaces between special tokens, and the tokenizer puts some there.

    All byte-level and most other tokenizers put none there, and the field has no effect.
    """
    if sampling.skip_special_tokens or sampling.spaces_between_special_tokens:
        return
    first, last = ([*tokenizer.all_special_ids[:1]], [*tokenizer.all_special_ids[-1:]])
    texts = [
        tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        for ids in (first + last, first, last)
    ]
    if texts[0] != texts[1] + texts[2]:
        message = (
            "spaces_between_special_tokens: the model's tokenizer puts spaces between special tokens, which are kept"
        )
        raise InvalidRequest(
            f"{message}; leave the field out, or skip_special_tokens", param="spaces_between_special_tokens"
        )


def reject_structured_outputs(kind: str, sampling: SamplingParams) -> None:
    """Raise InvalidRequest if a request asks an engine of a `kind` without structured outputs for them."""
    if sampling.structured_outputs is not None:
        message = f"{FIELD}, JSON as the format of an answer and forced tool calls require the vllm engine, not {kind}"
        raise InvalidRequest(f"{message}; leave them out, or serve the model with --engine vllm", param=FIELD)


def bad_word_tokens(tokenizer: Encoder, words: Sequence[str]) -> list[list[int]]:
    """Return the tokens of each bad word as vLLM determines them: at the start of a text, and after a space.

    The form after a space is omitted if it begins with the same token or has a different number of tokens.

    Args:
        tokenizer: The model's tokenizer.
        words: The texts; none is only white space.

    Raises:
        InvalidRequest: A text has no token, or all have too many; `param` names the field.
    """
    sequences: list[list[int]] = []
    for index, word in enumerate(dict.fromkeys(words)):
        text = word.lstrip()
        plain, spaced = (tokenizer.encode(form, add_special_tokens=False) for form in (text, f" {text}"))
        if not plain:
            message = f"bad_words.{index}: {word!r} has no token of the model; leave it out"
            raise InvalidRequest(message, param=f"bad_words.{index}")
        sequences.append(plain)
        if spaced and spaced[0] != plain[0] and len(spaced) == len(plain):
            sequences.append(spaced)
    if (total := sum(map(len, sequences))) > _MAX_BAD_TOKENS:
        message = f"bad_words has {total} tokens, but at most {_MAX_BAD_TOKENS} are accepted"
        raise InvalidRequest(f"{message}; name fewer or shorter texts", param="bad_words")
    return sequences
