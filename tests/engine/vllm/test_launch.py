"""Starting vLLM, with a stand-in for it: an engine that cannot be patched is shut down."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest

from engine.vllm.launch import VllmSettings, start_llm_engine


def stand_in(name: str, **attributes: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(attributes)
    return module


def test_an_engine_that_cannot_be_patched_is_shut_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").touch()
    log: list[str] = []

    class Engine:
        def __init__(self) -> None:
            self.engine_core = self

        @classmethod
        def from_engine_args(cls, _: object) -> Engine:
            return cls()

        def shutdown(self) -> None:
            log.append("shutdown")

    class Cpu:
        @staticmethod
        def is_cpu() -> bool:
            return True

    def fail(_: object) -> None:
        raise AttributeError("vLLM has changed")

    modules: list[Any] = [
        stand_in("vllm", __version__="0.32.0", EngineArgs=dict, LLMEngine=Engine),
        stand_in("vllm.platforms", current_platform=Cpu),
        stand_in("engine.vllm.patches", skip_logprob_texts=lambda: None, limit_prefix_reads=fail),
    ]
    for module in modules:
        monkeypatch.setitem(sys.modules, module.__name__, module)
    with patch.dict(os.environ), pytest.raises(AttributeError, match="vLLM has changed"):
        start_llm_engine(tmp_path, dtype="float32", settings=VllmSettings())
    assert log == ["shutdown"]
