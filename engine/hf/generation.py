"""Generation of one answer by a Hugging Face model, one token a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ampsweep.domain.generation.chunk import Chunk, FinishReason, PromptPart, TokenLogprob
from ampsweep.domain.generation.sampling import SamplingParams
from engine.detokenizer import TextOffsets, TextStream, prompt_part
from engine.hf.model import TransformersModel
from engine.hf.sampler import Sampler
from engine.overflow import require_numbers
from engine.sampling import bad_word_tokens
from engine.steering.answer_switch import AnswerSwitch
from engine.steering.drift import SwitchHistory
from engine.steering.edits import Edits
from engine.steering.token_scope import TokenScope


class Generation:
    """Answer number `index` to `prompt`, with its own KV cache."""

    def __init__(
        self,
        model: TransformersModel,
        prompt: tuple[int, ...],
        sampling: SamplingParams,
        *,
        index: int,
        edits: Edits | None,
        scope: TokenScope,
        neuron_set: str | None,
        prompt_logprobs: int | None = None,
        return_token_ids: bool = False,
        switch: AnswerSwitch | None = None,
    ) -> None:
        """Prepare to continue the token ids of `prompt`; nothing runs before the first `step`.

        With `switch`, only tokens of the answer are edited, and only while it is on.
        """
        self._switch = switch
        self._history = SwitchHistory()
        if switch is not None and switch.on:
            self._history.switch(0)
        self._model = model
        self._index = index
        self._sampling = sampling
        self._edits = edits
        self._scope = scope
        self._neuron_set = neuron_set
        self._prompt_logprobs = prompt_logprobs
        self._prompt_ids = prompt if return_token_ids else None
        self._prompt_tokens = len(prompt)
        self._pending = prompt
        self._done = 0
        self._cache: Any = None
        self._text = TextStream(
            model.tokenizer,
            prompt,
            sampling.stop,
            include_stop=sampling.include_stop_str_in_output,
            min_tokens=sampling.min_tokens,
            skip_special_tokens=sampling.skip_special_tokens,
        )
        self._offsets = TextOffsets(model.texts, prompt, skip_special_tokens=sampling.skip_special_tokens)
        self._limit = min(len(prompt) + sampling.max_tokens, model.info.max_model_len)
        stop_tokens = frozenset(sampling.stop_token_ids)
        self._ends = stop_tokens if sampling.ignore_eos else stop_tokens | model.end_tokens
        self._sampler = Sampler(
            sampling,
            prompt,
            index=index,
            end_tokens=stop_tokens | model.end_tokens,
            bad_words=bad_word_tokens(model.tokenizer, sampling.bad_words),
        )

    def step(self) -> Chunk:
        """Sample the next token; must not be called after a chunk with a finish reason.

        Raises:
            InvalidRequest: The model computes NaN, see `require_numbers`.
        """
        returns_prompt = self._done == 0 and self._prompt_logprobs is not None
        logits, self._cache = self._model.logits(
            self._pending,
            start=self._done,
            cache=self._cache,
            edits=self._edits if self._steers() else None,
            scope=self._scope,
            last=0 if returns_prompt else 1,
        )
        prompt = self._prompt_part(logits) if returns_prompt else None
        self._done += len(self._pending)
        logprobs = logits[-1].log_softmax(dim=-1)
        self._require_numbers(logprobs.max(), () if prompt is None else prompt.logprobs)
        token = self._sampler.next(logits[-1])
        self._pending = (token,)
        text, reason = self._read(token)
        index = self._done - self._prompt_tokens
        if self._switch is not None and self._switch.read(self._text.read(), (token,)):
            self._history.switch(index + 1)
        return Chunk(
            index=self._index,
            text=text,
            token_ids=(token,),
            token_texts=(self._model.texts[token],),
            text_offsets=(self._offsets.push(token),),
            logprobs=(float(logprobs[token]),),
            top_logprobs=(self._alternatives(logprobs, self._sampling.top_logprobs),),
            prompt_tokens=self._prompt_tokens,
            finish_reason=reason,
            neuron_set=self._neuron_set,
            prompt=prompt,
            prompt_token_ids=self._prompt_ids if index == 0 else None,
            steered_spans=None if self._switch is None else self._history.spans(index, index + 1),
        )

    def _require_numbers(self, likeliest: Tensor, of_prompt: Sequence[float | None]) -> None:
        values = (float(likeliest), *of_prompt)
        require_numbers(values, dtype=self._model.info.dtype, steered=self._edits is not None)

    def _steers(self) -> bool:
        """Whether the pending tokens are edited: those of the prompt, or one token of the answer."""
        index = self._done - self._prompt_tokens
        return self._switch is None or (index >= 0 and bool(self._history.steered(index, 1)[0]))

    def _prompt_part(self, logits: Tensor) -> PromptPart:
        """Return the prompt's tokens from the logits of all of its positions, [T, vocabulary]."""
        assert self._prompt_logprobs is not None
        ids, rows = self._pending, logits[:-1].log_softmax(dim=-1)
        values = [float(row[token]) for row, token in zip(rows, ids[1:], strict=True)]
        ranks = [int((row >= row[token]).sum()) for row, token in zip(rows, ids[1:], strict=True)]
        likeliest = [self._alternatives(row, self._prompt_logprobs) for row in rows]
        return prompt_part(self._model.texts, ids, [None, *values], [None, *ranks], [(), *likeliest])

    def _read(self, token: int) -> tuple[str, FinishReason | None]:
        ends = token in self._ends
        text = self._text.push(token) if not ends or self._sampling.include_stop_str_in_output else ""
        if ends or self._text.stopped:
            return text + self._text.finish(), "stop"
        if self._done + 1 >= self._limit:
            return text + self._text.finish(), "length"
        return text, None

    def _alternatives(self, logprobs: Tensor, count: int) -> tuple[TokenLogprob, ...]:
        values, tokens = logprobs.topk(min(count, len(logprobs)))
        return tuple(
            TokenLogprob(token, value, self._model.texts[token])
            for token, value in zip(tokens.tolist(), values.tolist(), strict=True)
        )
