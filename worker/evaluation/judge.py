"""A judge that is a model of this server's engines."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from ampsweep.domain.generation.prompt import ChatMessage
from ampsweep.domain.generation.sampling import SamplingParams
from jobs.evaluation.judge import MAX_TOKENS
from jobs.execution import CompletionCall, Completions


class EngineJudge:
    """Asks a model through the same engines that run the sweeps.

    Args:
        completions: Generates the replies.
        name: The name of the model.
        fingerprint: The hash of the model; ratings of another model under the same name are not mixed with its own.
    """

    def __init__(self, completions: Completions, *, name: str, fingerprint: str) -> None:
        self.model = f"{name} {fingerprint[:12]}"
        self._completions = completions
        self._name = name

    async def reply(self, messages: Sequence[ChatMessage]) -> str:
        """Return the reply of the unsteered model."""
        call = CompletionCall(
            model=self._name,
            prompt=tuple(messages),
            intervention=None,
            neurons=None,
            sampling=SamplingParams(max_tokens=MAX_TOKENS, temperature=0.0),
            stream=False,
        )
        async with aclosing(self._completions.stream(call)) as chunks:
            return "".join([chunk.text async for chunk in chunks])
