"""Conversion of requests to vLLM's prompts and sampling parameters, and of its outputs to chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ampsweep.domain.generation.chunk import Chunk, FinishReason, PromptPart, TokenLogprob
from ampsweep.domain.generation.sampling import SAMPLING_TYPES, SamplingParams
from ampsweep.domain.generation.structured_outputs import FIELD
from ampsweep.errors import AmpsweepError, EngineFailed, InvalidRequest
from engine.base import GenerateRequest, Steering
from engine.detokenizer import TextOffsets, TokenTexts, first_stop, prompt_part
from engine.steering.drift import SwitchHistory
from engine.vllm.requests.request_extras import RequestExtras, steering_key
from engine.vllm.requests.tool_calls import CallParsing, CallReader

if TYPE_CHECKING:
    import vllm

_RENAMED = {"top_logprobs": "logprobs"}
_ANSWERS = "n"  # each answer is a vLLM request of its own
_LONG = 256
"""Tokens of an answer from which on it is read in a thread."""


def cache_salt(steering: Steering | None, prompt_tokens: int) -> str | None:
    """Return the salt of a request's prefix-cache blocks. It is equal only where equal prefixes are steered alike.

    With scope "prompt" or "generation" the steering of a token depends on where the prompt ends, so the salt does too.
    A prompt before an answer whose steering depends on its text is not steered and has no salt;
    `engine.vllm.patches.separate_switched_blocks` separates the blocks of the answer.
    """
    if steering is None or steering.intervention.text_field is not None:
        return None
    key = steering_key(steering)
    return key if steering.intervention.scope == "all" else f"{key}/{prompt_tokens}"


def token_prompt(ids: tuple[int, ...], salt: str | None) -> dict[str, Any]:
    """Return vLLM's form of a prompt of token ids."""
    prompt: dict[str, Any] = {"prompt_token_ids": list(ids)}
    if salt is not None:
        prompt["cache_salt"] = salt
    return prompt


def answer_params(
    sampling: SamplingParams,
    *,
    index: int,
    max_new_tokens: int,
    extras: RequestExtras,
    prompt_logprobs: int | None = None,
    special_tokens: bool = False,
    stream: bool = True,
) -> vllm.SamplingParams:
    """Return vLLM's parameters for answer number `index`, of at most `max_new_tokens` tokens.

    With `stream` vLLM returns what each step adds to the answer, otherwise the whole answer at its end. With
    `special_tokens` the text always has the special tokens of the answer, for a parser of tool calls. A field of
    `SamplingParams` is passed on under its name, so it must be named, and mean, what it does in vLLM.
    """
    import vllm
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    values = {_RENAMED.get(name, name): getattr(sampling, name) for name in SAMPLING_TYPES if name != _ANSWERS}
    params = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    params |= {
        "max_tokens": min(sampling.max_tokens, max_new_tokens),
        "seed": None if sampling.seed is None else sampling.seed + index,
        "skip_special_tokens": sampling.skip_special_tokens and not special_tokens,
    }
    if sampling.structured_outputs is not None:
        params["structured_outputs"] = StructuredOutputsParams(**sampling.structured_outputs.to_dict())
    return vllm.SamplingParams(
        **params,
        prompt_logprobs=prompt_logprobs,
        output_kind=RequestOutputKind.DELTA if stream else RequestOutputKind.FINAL_ONLY,
        extra_args=extras.extra_args(),
        skip_clone=True,  # not shared; a deep copy of the extras would cost more than the rest of the request
    )


def one_pass_params(extras: RequestExtras) -> vllm.SamplingParams:
    """Return vLLM's parameters for a request that needs one forward pass.

    A recording or a capture reads nothing from the prefix cache: the activations of cached tokens are not computed.
    """
    import vllm

    return vllm.SamplingParams(
        max_tokens=1,
        temperature=0.0,
        detokenize=False,
        skip_reading_prefix_cache=extras.record is not None or extras.capture is not None,
        extra_args=extras.extra_args(),
        skip_clone=True,
    )


def is_long(output: vllm.RequestOutput) -> bool:
    """Return whether reading an output would block an event loop for milliseconds, by the number of its tokens."""
    return bool(output.prompt_logprobs) or any(len(part.token_ids) > _LONG for part in output.outputs)


def answer_readers(
    request: GenerateRequest,
    texts: TokenTexts,
    prompt: Sequence[int],
    parsing: CallParsing | None,
    histories: Sequence[SwitchHistory | None],
) -> list[AnswerReader]:
    """Return a reader for each answer to a request.

    Args:
        request: The request.
        texts: The texts of tokens.
        prompt: The token ids of its prompt.
        parsing: How calls of tools are parsed, None if they are not.
        histories: The switches of the steering of each answer, None for one that is not switched.
    """
    return [
        AnswerReader(
            request.sampling,
            texts,
            index=index,
            prompt=prompt,
            neuron_set=None if request.steering is None else request.steering.neurons,
            prompt_logprobs=request.prompt_logprobs,
            return_token_ids=request.return_token_ids,
            calls=None if parsing is None else parsing.reader(prompt),
            history=history,
        )
        for index, history in enumerate(histories)
    ]


class AnswerReader:
    """Converts vLLM's outputs for one answer to chunks."""

    def __init__(
        self,
        sampling: SamplingParams,
        texts: TokenTexts,
        *,
        index: int,
        prompt: Sequence[int],
        neuron_set: str | None = None,
        prompt_logprobs: int | None = None,
        return_token_ids: bool = False,
        calls: CallReader | None = None,
        history: SwitchHistory | None = None,
    ) -> None:
        """Read answer number `index` to `prompt`, a sequence of token ids.

        `calls` parses the calls in it. `history` has the switches of its steering, None if it is not switched.
        """
        self._history = history
        self._sampling = sampling
        self._texts = texts
        self._index = index
        self._prompt_tokens = len(prompt)
        self._neuron_set = neuron_set
        self._prompt = tuple(prompt)
        self._prompt_logprobs = prompt_logprobs
        self._prompt_ids = self._prompt if return_token_ids else None  # until they are returned
        self._calls = calls
        self._offsets = TextOffsets(texts, prompt, skip_special_tokens=sampling.skip_special_tokens)
        self._text = ""
        self._tokens = 0

    def read(self, output: vllm.RequestOutput) -> Chunk:
        """Return the answer's next chunk.

        Raises:
            InvalidRequest: vLLM could not compile the grammar of structured outputs.
            EngineFailed: vLLM ended the request for another reason.
        """
        (part,) = output.outputs
        if part.finish_reason == "error":
            raise self._failure()
        tokens = tuple(part.token_ids)
        steps = list(zip(tokens, part.logprobs or [], strict=True))
        first = self._tokens
        reason: FinishReason | None = part.finish_reason if part.finish_reason in ("stop", "length", "abort") else None
        self._tokens += len(tokens)
        ends_answer = reason == "stop" and not isinstance(part.stop_reason, str)
        has_text = not ends_answer or self._sampling.include_stop_str_in_output  # the last token
        spoken = tokens if has_text else tokens[:-1]
        offsets = tuple(self._offsets.push(token) for token in spoken)
        text = part.text
        if reason is not None and not isinstance(part.stop_reason, str):
            text, reason = self._ended(text, reason)
        self._text += text
        prompt_ids, self._prompt_ids = self._prompt_ids, None
        return Chunk(
            index=self._index,
            text=text,
            token_ids=tokens,
            token_texts=tuple(self._texts[token] for token in tokens),
            text_offsets=offsets + (self._offsets.length,) * (len(tokens) - len(spoken)),
            logprobs=tuple(entries[token].logprob for token, entries in steps),
            top_logprobs=tuple(_likeliest(entries, self._sampling.top_logprobs, self._texts) for _, entries in steps),
            prompt_tokens=self._prompt_tokens,
            finish_reason=reason,
            neuron_set=self._neuron_set,
            prompt=self._prompt_part(output),
            prompt_token_ids=prompt_ids,
            parsed=None if self._calls is None else self._calls.read(text, tokens, finished=reason is not None),
            steered_spans=None if self._history is None else self._history.spans(first, self._tokens),
        )

    def _failure(self) -> AmpsweepError:
        if self._sampling.structured_outputs is None:
            return EngineFailed("vLLM ended the request with an error, which the engine's log describes")
        message = (
            f"{FIELD}: vLLM could not compile the grammar, or generated a token that it does not allow; simplify it"
        )
        return InvalidRequest(message, param=FIELD)

    def _prompt_part(self, output: vllm.RequestOutput) -> PromptPart | None:
        """Return the prompt's tokens, which vLLM reports with the first output."""
        if self._prompt_logprobs is None or not output.prompt_logprobs:
            return None
        count, self._prompt_logprobs = self._prompt_logprobs, None
        steps = list(zip(self._prompt, output.prompt_logprobs, strict=True))
        return prompt_part(
            self._texts,
            self._prompt,
            [None if entries is None else entries[token].logprob for token, entries in steps],
            [None if entries is None else entries[token].rank for token, entries in steps],
            [_likeliest(entries or {}, count, self._texts) for _, entries in steps],
        )

    def _ended(self, text: str, reason: FinishReason) -> tuple[str, FinishReason]:
        """Return the last text and the finish reason.

        vLLM drops a complete character if the answer's last token also holds part of the next one. This adds it back.
        """
        whole = text + self._offsets.unfinished
        if self._tokens <= self._sampling.min_tokens:
            return whole, reason
        checked = len(self._text) + len(text)  # by vLLM, which found no stop string
        match = first_stop(self._text + whole, self._sampling.stop, after=checked)
        if match is None:
            return whole, reason
        end = match.end if self._sampling.include_stop_str_in_output else match.start
        return (self._text + whole)[len(self._text) : end], "stop"


def _likeliest(entries: dict[int, Any], count: int, texts: TokenTexts) -> tuple[TokenLogprob, ...]:
    """Return the `count` entries of the best rank. `entries` always hold the sampled token, whatever its rank."""
    if not count:
        return ()
    ranked = sorted(entries.items(), key=lambda entry: int(entry[1].rank))[:count]
    return tuple(TokenLogprob(token, entry.logprob, texts[token]) for token, entry in ranked)
