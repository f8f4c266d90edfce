"""Requests of one forward pass, whose result the workers compute: scores, recordings and captures."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ampsweep.errors import AmpsweepError
from engine.base import Priority, TokenCounts
from engine.vllm.loop import EngineLoop, WorkerResult
from engine.vllm.requests.conversion import one_pass_params
from engine.vllm.requests.request_extras import RequestExtras

if TYPE_CHECKING:
    from vllm import RequestOutput
    from vllm.lora.request import LoRARequest


class OnePassRequests:
    """Sends requests of one forward pass to the engine's loop, and counts their tokens in `tokens`."""

    def __init__(self, loop: EngineLoop, tokens: TokenCounts) -> None:
        self._loop = loop
        self._tokens = tokens
        self._names = 0

    def name(self, kind: str) -> str:
        """Return a name for a result on the workers that no other has."""
        self._names += 1
        return f"{kind}-{self._names}"

    async def run(
        self,
        prompt: Any,
        extras: RequestExtras,
        priority: Priority,
        result: WorkerResult,
        *,
        adapter: LoRARequest | None = None,
    ) -> RequestOutput:
        """Send one request and return its last output, when `result` has its parts. Cancelling aborts the request."""
        answer: asyncio.Future[RequestOutput] = asyncio.get_running_loop().create_future()

        def sink(output: RequestOutput | AmpsweepError) -> None:
            if answer.done():
                return
            if isinstance(output, AmpsweepError):
                answer.set_exception(output)
            elif output.finished:
                self._tokens.prompt += len(prompt["prompt_token_ids"])
                count_cached(self._tokens, output)
                answer.set_result(output)

        params = one_pass_params(extras)
        request_id = self._loop.submit(prompt, params, sink, priority=priority, result=result, adapter=adapter)
        try:
            return await answer
        except asyncio.CancelledError:
            self._loop.abort(request_id)
            raise


def count_cached(tokens: TokenCounts, output: RequestOutput) -> None:
    """Count what a finished request has read from the prefix cache."""
    if output.finished:
        tokens.cached += output.num_cached_tokens or 0
