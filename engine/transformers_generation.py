"""One answer of a Hugging Face model, a token a step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from engine.detokenizer import TextStream
from engine.edits import Edits
from engine.intervention import Scope
from engine.protocol import Chunk, FinishReason, Sampling
from engine.transformers_model import TransformersModel


class Generation:
    """The continuation of `prompt`, with a key-value cache of its own."""

    def __init__(
        self,
        model: TransformersModel,
        prompt: tuple[int, ...],
        sampling: Sampling,
        *,
        edits: Edits | None,
        scope: Scope,
    ) -> None:
        """Begin after the tokens of `prompt`; nothing runs before the first `step`."""
        self._model = model
        self._sampling = sampling
        self._edits = edits
        self._scope = scope
        self._prompt_tokens = len(prompt)
        self._pending = prompt
        self._done = 0
        self._cache: Any = None
        self._text = TextStream(model.tokenizer, prompt, sampling.stop)
        self._limit = min(len(prompt) + sampling.max_tokens, model.info.max_model_len)
        self._random = torch.Generator()
        if sampling.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(sampling.seed)

    def step(self) -> Chunk:
        """Draw the next token; must not be called after a chunk with a finish reason."""
        predicted, self._cache = self._model.logprobs(
            self._pending,
            start=self._done,
            prompt_tokens=self._prompt_tokens,
            cache=self._cache,
            edits=self._edits,
            scope=self._scope,
        )
        self._done += len(self._pending)
        token = self._draw(predicted[-1])
        self._pending = (token,)
        text, reason = self._read(token)
        return Chunk(
            text=text,
            token_ids=(token,),
            logprobs=(float(predicted[-1, token]),),
            prompt_tokens=self._prompt_tokens,
            finish_reason=reason,
        )

    def _read(self, token: int) -> tuple[str, FinishReason | None]:
        if token in self._model.end_tokens and not self._sampling.ignore_eos:
            return self._text.finish(), "stop"
        text = self._text.push(token)
        if self._text.stopped:
            return text, "stop"
        if self._done + 1 >= self._limit:
            return text + self._text.finish(), "length"
        return text, None

    def _draw(self, logprobs: Tensor) -> int:
        """Return the likeliest token, or one drawn among the likeliest that together reach `top_p`."""
        if self._sampling.temperature == 0:
            return int(logprobs.argmax())
        probability, order = torch.softmax(logprobs.cpu() / self._sampling.temperature, dim=-1).sort(descending=True)
        probability[probability.cumsum(dim=-1) - probability >= self._sampling.top_p] = 0
        probability[0] = max(float(probability[0]), torch.finfo(torch.float32).tiny)
        return int(order[torch.multinomial(probability, 1, generator=self._random)])
