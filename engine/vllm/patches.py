"""Changes to vLLM's engine process: what the prefix cache shares, texts of answers and likely tokens, ids of requests.

All are applied by `engine.vllm.launch` when an engine is started. The changes inside vLLM's workers are in
`engine.vllm.worker`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from typing import Any

from tokenizers.decoders import DecodeStream
from vllm import LLMEngine
from vllm.v1.engine.detokenizer import FastIncrementalDetokenizer
from vllm.v1.engine.logprobs import LogprobsProcessor
from vllm.v1.request import Request

from engine.incremental_decoder import CHARACTER_BYTES, REPLACEMENT, PromptEnd
from engine.vllm.requests.request_extras import KEY

_from_new_request = LogprobsProcessor.from_new_request.__func__
_begin_detokenizer = FastIncrementalDetokenizer.__init__


def limit_prefix_reads(engine: LLMEngine) -> None:
    """Make a scoring request read the prefix cache only up to the token before its first scored one.

    vLLM reads as much of a prompt from the cache as it can, all but the last token. The hidden states of cached tokens
    are not computed, but scoring needs those from the token that predicts the first scored token on. Blocks before that
    token are still read, so a context that many continuations share is computed once.
    """
    core: Any = engine.engine_core
    manager = core.engine_core.scheduler.kv_cache_manager
    get_computed_blocks = manager.get_computed_blocks
    find_longest_cache_hit = manager.coordinator.find_longest_cache_hit
    limit: int | None = None

    def limited_find(block_hashes: Any, max_cache_hit_length: int) -> Any:
        length = max_cache_hit_length if limit is None else min(max_cache_hit_length, limit)
        return find_longest_cache_hit(block_hashes, length)

    def limited_get(request: Request, *args: Any) -> Any:  # vLLM 0.33 passes a limit of its own
        nonlocal limit
        limit = _first_needed(request)
        try:
            return get_computed_blocks(request, *args)
        finally:
            limit = None

    manager.coordinator.find_longest_cache_hit = limited_find
    manager.get_computed_blocks = limited_get


def separate_switched_blocks(engine: LLMEngine) -> None:
    """Make a request whose steering is switched share blocks of its prompt alone.

    Its prompt is not steered, so it has no salt. How a token of its answer is steered depends on the text before it, so
    blocks with such tokens get hashes that no other request has. The request itself finds them again when it has been
    preempted, with the same switches.
    """
    core: Any = engine.engine_core
    hasher = core.engine_core.request_block_hasher
    if hasher is None:  # there is no prefix cache
        return

    def separated(request: Request) -> Any:
        hashes = hasher(request)
        if not hashes or request.num_tokens == request.num_prompt_tokens or (name := _switch(request)) is None:
            return hashes
        return [hashlib.sha256(block_hash + name.encode()).digest() for block_hash in hashes]

    core.engine_core.request_block_hasher = separated


def keep_request_ids(engine: LLMEngine) -> None:
    """Make vLLM use the ids that it is given, which are unique: `EngineLoop` counts them.

    vLLM would make them unique by a random suffix. Random bytes come from a system call during which Python lets other
    threads run, and the engine's thread would wait for its turn with each request.
    """

    def assign(request: Any) -> None:
        request.external_req_id = request.request_id

    engine.input_processor.assign_request_id = assign


def begin_texts_after_prompts() -> None:
    """Make vLLM return no text of the prompt with the first tokens of an answer; calling it again changes nothing.

    vLLM decodes with a stream that is given the tokens of the prompt. If their text ends with U+FFFD, because they end
    within a character or with that character itself, the stream returns the whole prompt with the first token.
    """
    FastIncrementalDetokenizer.__init__ = _begin_after_prompt


def skip_logprob_texts() -> None:
    """Make vLLM return likely tokens as ids, without their texts; calling it again changes nothing.

    The engine has its own texts (`engine.detokenizer.TokenTexts`) and reads none of vLLM's. vLLM would call the
    tokenizer for each token of each step, and its process would end if a SentencePiece tokenizer did not know an id. A
    model whose vocabulary is padded can sample such an id at any step.
    """
    LogprobsProcessor.from_new_request = classmethod(_without_tokenizer)


def _begin_after_prompt(self: FastIncrementalDetokenizer, tokenizer: Any, request: Any) -> None:
    _begin_detokenizer(self, tokenizer, request)
    options = {"skip_special_tokens": self.skip_special_tokens, "clean_up_tokenization_spaces": False}
    decode = partial(tokenizer.decode, **options)
    prompt = request.prompt_token_ids or []
    if not decode(prompt[-CHARACTER_BYTES:]).endswith(REPLACEMENT):
        return
    context, unfinished = PromptEnd.of(prompt, tokenizer, decode)
    if decode(context).endswith(REPLACEMENT):
        context = tokenizer.encode("a", add_special_tokens=False)[-1:]  # any text that the answer can follow
    self.stream = DecodeStream(ids=context, skip_special_tokens=self.skip_special_tokens)
    for token in unfinished:
        self.stream.step(self.tokenizer, token)


def _without_tokenizer(cls: type[LogprobsProcessor], tokenizer: Any, request: Any) -> Any:
    del tokenizer
    return _from_new_request(cls, tokenizer=None, request=request)


def _first_needed(request: Request) -> int | None:
    """Return the position of the first hidden state that scoring needs, None for a request that scores nothing."""
    first: int | None = _raw_extras(request).get("score", {}).get("first")
    return None if first is None else first - 1


def _switch(request: Request) -> str | None:
    """Return the name of a request's switch, None without one."""
    name: str | None = _raw_extras(request).get("steer", {}).get("switch")
    return name


def _raw_extras(request: Request) -> Mapping[str, Any]:
    """Return the extras of a request as its `extra_args` hold them.

    Both callers run for every request or block, and reading the intervention would take most of their time.
    """
    params = request.sampling_params
    extras: Mapping[str, Any] = {} if params is None else (params.extra_args or {}).get(KEY, {})
    return extras
