"""A VllmEngine without vLLM: its own code on a model that counts every token and a tokenizer that hashes words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar
from zlib import crc32

import numpy as np
import pytest

from engine.base import EngineInfo
from engine.fake import FAKE_INFO
from engine.vllm.engine import VllmEngine
from engine.vllm.loop import WorkerResult
from engine.vllm.options import BackendName
from engine.vllm.requests.request_extras import RecordingArgs, RequestExtras
from engine.vllm.settings import VllmSettings
from engine.vllm.worker.outputs.recorded_part import RecordedPart
from engine.vllm.worker.table import Shard


class WordTokenizer:
    """A tokenizer with one token per word and no special tokens."""

    bos_token_id = 0
    eos_token_id = 0
    all_special_ids: ClassVar[list[int]] = []

    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        self.encoded += 1
        return [crc32(word.encode()) for word in text.split()]

    def get_vocab(self) -> dict[str, int]:
        return {}

    def decode(self, ids: list[int], **_options: object) -> str:
        return " ".join(map(str, ids))

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str | None]:
        return [str(token) for token in ids]


@dataclass
class StubLoop:
    """Answers all requests of one iteration of the event loop in the next one, as if they had shared a step.

    Attributes:
        info: The model.
        backend: The steering backend of the workers.
        most: The maximum number of requests in flight.
        added_up: Sentences that were recorded together with others.
    """

    info: EngineInfo
    backend: BackendName = "cuda"
    most: int = 0
    added_up: int = 0
    _step: list[tuple[Any, RequestExtras, Callable[[Any], None], WorkerResult | None]] = field(default_factory=list)

    def submit(
        self,
        prompt: Any,
        params: RequestExtras,
        sink: Callable[[Any], None],
        *,
        priority: int = 0,
        result: WorkerResult | None = None,
        adapter: object = None,
        switched: object = None,
    ) -> str:
        assert adapter is None
        assert switched is None
        if not self._step:
            asyncio.get_running_loop().call_soon(self._answer)
        self._step.append((prompt, params, sink, result))
        self.most = max(self.most, len(self._step))
        return "request"

    async def call(self, function: Callable[[Any], Any]) -> Any:
        config = SimpleNamespace(additional_config={"ampsweep": {"backend": self.backend}})
        return function(SimpleNamespace(vllm_config=config))

    def _answer(self) -> None:
        step, self._step = self._step, []
        groups: dict[str, list[tuple[RecordingArgs, int]]] = {}
        for prompt, params, _, _ in step:
            if (record := params.record) is not None:
                groups.setdefault(record.group or record.key, []).append((record, len(prompt["prompt_token_ids"])))
        for _, params, sink, result in step:
            if result is not None:
                assert params.record is not None
                result.parts.append(self._part(groups.pop(params.record.group or params.record.key, None)))
            sink(SimpleNamespace(finished=True, num_cached_tokens=0))

    def _part(self, group: Sequence[tuple[RecordingArgs, int]] | None) -> RecordedPart | None:
        """Return what is recorded of a group: every neuron is above 0 at every token, with an activation of 1."""
        if group is None:
            self.added_up += 1
            return None
        shape = self.info.widths.shape
        counts = np.full(shape, sum(tokens for _, tokens in group), dtype=np.int32)
        return RecordedPart(
            keys=tuple(record.key for record, _ in group),
            shard=Shard.of_rank(range(self.info.layers), self.info.widths),
            counts=counts,
            sums=counts.astype(np.float32) if group[0][0].sums else None,
            residual=np.full((self.info.layers, self.info.hidden_size), float(len(group))),
        )

    def abort(self, request_id: str) -> None: ...


def stub_engine(monkeypatch: pytest.MonkeyPatch, info: EngineInfo = FAKE_INFO) -> tuple[VllmEngine, Any, Any]:
    """Return the engine, its loop and its tokenizer."""
    monkeypatch.setattr("engine.vllm.requests.one_pass.one_pass_params", lambda extras: extras)
    loop, tokenizer = StubLoop(info), WordTokenizer()
    stub: Any = loop
    engine = VllmEngine(info, stub, tokenizer, VllmSettings(), embedding_rows=2**32, takes_statistics=True)
    return engine, loop, tokenizer
