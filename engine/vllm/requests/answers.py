"""The answers to one request, each of which is a request of its own to vLLM.

If steering depends on the text of an answer, it is switched where the text is read: in the engine's thread, between two
steps. The switch takes effect at the next token that no step has begun to compute. So it does not depend on when the
caller's event loop runs, and the same answer is steered alike in every batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ampsweep.errors import AmpsweepError
from engine.base import GenerateRequest
from engine.detokenizer import TokenTexts
from engine.steering.answer_switch import AnswerSwitch
from engine.steering.drift import SwitchHistory
from engine.vllm.loop import EngineLoop
from engine.vllm.requests.conversion import answer_params, answer_readers, cache_salt, token_prompt
from engine.vllm.requests.request_extras import RequestExtras, steering_args
from engine.vllm.requests.tool_calls import CallParsing

if TYPE_CHECKING:
    from vllm import RequestOutput
    from vllm.lora.request import LoRARequest


class SwitchedAnswer:
    """Reads the text of one answer and switches its steering.

    Attributes:
        key: Name under which the workers know the switch.
        history: The switches, by the index of a token in the answer. The engine's thread appends to it before the
            output with the token is delivered.
    """

    def __init__(self, key: str, switch: AnswerSwitch, *, prompt_tokens: int) -> None:
        self.key = key
        self.history = SwitchHistory()
        if switch.on:
            self.history.switch(0)
        self._switch = switch
        self._prompt_tokens = prompt_tokens
        self._tokens = 0
        self._characters = 0

    def read(self, output: RequestOutput, *, text: str, scheduled: int) -> int | None:
        """Read an output; return the position from which on steering is switched, or None if it is not.

        Args:
            output: The next output of the answer.
            text: The whole text of the answer so far. That of its outputs lacks the last characters if the answer can
                end with a stop string, as many as the longest one has.
            scheduled: How many tokens of prompt and answer are computed, or are in a step that has begun.
        """
        (part,) = output.outputs
        self._tokens += len(part.token_ids)
        new, self._characters = text[self._characters :], len(text)
        if not self._switch.read(new, part.token_ids):
            return None
        position = max(self._prompt_tokens + self._tokens, scheduled)
        self.history.switch(position - self._prompt_tokens)
        return position


class Answers:
    """The answers to a request, from their submission to the loop on.

    Attributes:
        readers: Convert vLLM's outputs to chunks, by the answer's index.
    """

    def __init__(
        self,
        loop: EngineLoop,
        request: GenerateRequest,
        ids: tuple[int, ...],
        *,
        texts: TokenTexts,
        parsing: CallParsing | None = None,
        new_switch: Callable[[], AnswerSwitch] | None = None,
        new_key: Callable[[], str] = lambda: "",
    ) -> None:
        """Prepare to answer.

        Args:
            loop: The loop of the engine.
            request: The request.
            ids: The tokens of its prompt.
            texts: The texts of tokens.
            parsing: How calls of tools are parsed, None if they are not.
            new_switch: Makes a switch for each answer if steering depends on the text, see `switches_of`.
            new_key: Makes a name for each switch.
        """
        self._loop = loop
        self._request = request
        self._ids = ids
        self._switched = [
            None if new_switch is None else SwitchedAnswer(new_key(), new_switch(), prompt_tokens=len(ids))
            for _ in range(request.sampling.n)
        ]
        histories = [None if switched is None else switched.history for switched in self._switched]
        self.readers = answer_readers(request, texts, ids, parsing, histories)
        self._special_tokens = parsing is not None and parsing.special_tokens
        self._outputs: asyncio.Queue[tuple[int, RequestOutput | AmpsweepError]] = asyncio.Queue()
        self._unfinished: dict[int, str] = {}

    @property
    def unfinished(self) -> bool:
        """Whether an answer that was submitted has not ended."""
        return bool(self._unfinished)

    def submit(self, *, max_new_tokens: int, adapter: LoRARequest | None) -> None:
        """Send the requests to vLLM, each for at most `max_new_tokens` tokens, with a LoRA adapter or none."""
        request = self._request
        prompt = token_prompt(self._ids, cache_salt(request.steering, len(self._ids)))
        for index, switched in enumerate(self._switched):
            steer = steering_args(
                request.steering,
                len(self._ids),
                switch=None if switched is None else switched.key,
                on=switched is not None and switched.history.on,
            )
            params = answer_params(
                request.sampling,
                index=index,
                max_new_tokens=max_new_tokens,
                extras=RequestExtras(steer=steer),
                prompt_logprobs=request.prompt_logprobs,
                special_tokens=self._special_tokens,
                stream=request.stream or switched is not None,
            )
            self._unfinished[index] = self._loop.submit(
                prompt, params, partial(self._put, index), priority=request.priority, adapter=adapter, switched=switched
            )

    async def next(self) -> tuple[int, RequestOutput]:
        """Return the next output of any answer, and the answer's index; raise the error that ended an answer."""
        index, item = await self._outputs.get()
        if isinstance(item, AmpsweepError):
            raise item
        if item.finished:
            del self._unfinished[index]
        return index, item

    def abort(self) -> None:
        """Abort the answers that have not ended."""
        for request_id in self._unfinished.values():
            self._loop.abort(request_id)

    def _put(self, index: int, item: RequestOutput | AmpsweepError) -> None:
        self._outputs.put_nowait((index, item))
