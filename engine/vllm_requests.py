"""What vLLM is sent for a request, and what its outputs mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.detokenizer import TokenTexts
from engine.protocol import Alternative, Chunk, Sampling, Steering
from engine.vllm_patch.wire import Orders, steering_key

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams


def cache_salt(steering: Steering | None, prompt_tokens: int) -> str | None:
    """Return what a request's prefix-cache blocks are salted with: equal only where equal prefixes are steered alike.

    Where the scope ends or begins with the prompt, that is also where it ends.
    """
    if steering is None:
        return None
    key = steering_key(steering)
    return key if steering.intervention.scope == "all" else f"{key}/{prompt_tokens}"


def token_prompt(ids: tuple[int, ...], salt: str | None) -> dict[str, Any]:
    """Return vLLM's form of a prompt of tokens."""
    prompt: dict[str, Any] = {"prompt_token_ids": list(ids)}
    if salt is not None:
        prompt["cache_salt"] = salt
    return prompt


def answer_params(sampling: Sampling, *, index: int, room: int, orders: Orders) -> SamplingParams:
    """Return the sampling of the answer number `index`, of at most `room` tokens, which comes in pieces."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        max_tokens=min(sampling.max_tokens, room),
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        frequency_penalty=sampling.frequency_penalty,
        presence_penalty=sampling.presence_penalty,
        repetition_penalty=sampling.repetition_penalty,
        seed=None if sampling.seed is None else sampling.seed + index,
        stop=list(sampling.stop),
        ignore_eos=sampling.ignore_eos,
        logprobs=sampling.top_logprobs,
        output_kind=RequestOutputKind.DELTA,
        extra_args=orders.extra_args(),
        skip_clone=True,  # nobody else has them, and a deep copy of the orders costs more than all else of a request
    )


def one_pass_params(orders: Orders) -> SamplingParams:
    """Return the sampling of a request that is only computed; what is recorded must be, all of it."""
    from vllm import SamplingParams

    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        detokenize=False,
        skip_reading_prefix_cache=orders.record is not None,
        extra_args=orders.extra_args(),
        skip_clone=True,
    )


def read_chunk(output: RequestOutput, *, index: int, prompt_tokens: int, alternatives: int, texts: TokenTexts) -> Chunk:
    """Return a piece of the answer number `index`."""
    (part,) = output.outputs
    tokens = tuple(part.token_ids)
    steps = list(zip(tokens, part.logprobs or [], strict=True))
    reason = part.finish_reason
    return Chunk(
        index=index,
        text=part.text,
        token_ids=tokens,
        token_texts=tuple(texts[token] for token in tokens),
        logprobs=tuple(entries[token].logprob for token, entries in steps),
        top_logprobs=tuple(_likeliest(entries, alternatives, texts) for _, entries in steps),
        prompt_tokens=prompt_tokens,
        finish_reason=reason if reason in ("stop", "length", "abort") else None,
    )


def _likeliest(entries: dict[int, Any], count: int, texts: TokenTexts) -> tuple[Alternative, ...]:
    """Return the `count` entries of the best rank; the drawn token is among the entries whatever its rank."""
    if not count:
        return ()
    ranked = sorted(entries.items(), key=lambda entry: int(entry[1].rank))[:count]
    return tuple(Alternative(token, entry.logprob, texts[token]) for token, entry in ranked)
