"""A VllmEngine without vLLM: its own code on a model that records zeros and a tokenizer that hashes words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar
from zlib import crc32

import numpy as np
import pytest

from engine.base import EngineInfo
from engine.fake import FAKE_INFO
from engine.vllm.engine import VllmEngine
from engine.vllm.loop import WorkerResult
from engine.vllm.requests.request_extras import RequestExtras
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
    """Answers each request in the next iteration of the event loop; `most` is the maximum number in flight."""

    info: EngineInfo
    flying: int = 0
    most: int = 0

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
        self.flying += 1
        self.most = max(self.most, self.flying)
        asyncio.get_running_loop().call_soon(self._answer, prompt, params, sink, result)
        return "request"

    def _answer(
        self, prompt: Any, params: RequestExtras, sink: Callable[[Any], None], result: WorkerResult | None
    ) -> None:
        self.flying -= 1
        if result is not None:
            assert params.record is not None
            shape = self.info.widths.shape
            counts = np.full(shape, len(prompt["prompt_token_ids"]), dtype=np.int32)
            sums = counts.astype(np.float32) if params.record.sums else None
            shard = Shard.of_rank(range(self.info.layers), self.info.widths)
            residual = np.ones((self.info.layers, self.info.hidden_size), dtype=np.float32)
            result.parts.append(RecordedPart(shard=shard, counts=counts, sums=sums, residual=residual))
        sink(SimpleNamespace(finished=True, num_cached_tokens=0))

    def abort(self, request_id: str) -> None: ...


def stub_engine(monkeypatch: pytest.MonkeyPatch, info: EngineInfo = FAKE_INFO) -> tuple[VllmEngine, Any, Any]:
    """Return the engine, its loop and its tokenizer."""
    monkeypatch.setattr("engine.vllm.requests.one_pass.one_pass_params", lambda extras: extras)
    loop, tokenizer = StubLoop(info), WordTokenizer()
    stub: Any = loop
    engine = VllmEngine(info, stub, tokenizer, VllmSettings(), embedding_rows=2**32, takes_statistics=True)
    return engine, loop, tokenizer
