"""The LoRA adapters of an engine on vLLM.

Adapters are loaded when the engine starts. Each request names one or none, and requests with different adapters share a
batch. vLLM keeps separate prefix-cache blocks for each adapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampsweep.errors import InvalidRequest, UnknownName
from ampsweep.folders.adapter import AdapterFolder, check_adapter, read_adapter
from engine.base import Engine, ScoreRequest

if TYPE_CHECKING:
    from vllm import LLMEngine
    from vllm.lora.request import LoRARequest

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The maximum ranks that vLLM has kernels for."""
_MAX_ON_GPU = 8
"""Adapters in a batch on a GPU, at most; requests with further ones wait. Memory for them is reserved at the start."""
_CONTEXT, _CONTINUATION = "0 1 2 3 4 5", " 6 7 8 9"


class Adapters:
    """The adapters of an engine, by name."""

    def __init__(self, folders: Sequence[AdapterFolder]) -> None:
        self._folders = tuple(folders)

    @classmethod
    def read(cls, paths: Mapping[str, Path], *, model: Path) -> Adapters:
        """Read adapters and check that they belong to the model.

        Args:
            paths: The folders of the adapters, by name.
            model: The folder of the model.

        Raises:
            InvalidRequest: An adapter cannot be used with the model (param "lora").
        """
        folders = [read_adapter(path, name=name) for name, path in paths.items()]
        for folder in folders:
            check_adapter(folder, model)
            if folder.rank > _RANKS[-1]:
                message = f"adapter {folder.name} cannot be used: its rank {folder.rank} exceeds {_RANKS[-1]}"
                raise InvalidRequest(f"{message}; merge it into the model", param="lora")
        return cls(folders)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the adapters."""
        return tuple(folder.name for folder in self._folders)

    def arguments(self, *, on_cpu: bool) -> dict[str, Any]:
        """Return vLLM's arguments for a model with these adapters; none without adapters.

        Only the projections that an adapter changes are replaced by vLLM's LoRA layers, never the head. On a CPU there
        is one more slot than adapters. If other requests of a batch have an adapter, vLLM applies the last slot to
        tokens without one, because their index is -1; this slot is empty and adds 0.
        """
        if not self._folders:
            return {}
        rank = max(folder.rank for folder in self._folders)
        slots = len(self._folders) + 1 if on_cpu else min(len(self._folders), _MAX_ON_GPU)
        return {
            "enable_lora": True,
            "max_loras": slots,
            "max_cpu_loras": max(slots, len(self._folders)),
            "max_lora_rank": next(allowed for allowed in _RANKS if allowed >= rank),
            "lora_target_modules": sorted({target for folder in self._folders for target in folder.targets}),
        }

    def load(self, engine: LLMEngine) -> None:
        """Load all adapters into the workers, so that one that does not fit fails the start, not a later step."""
        for name in self.names:
            engine.add_lora(self.request(name))

    def request(self, name: str | None) -> LoRARequest | None:
        """Return the adapter of a request in vLLM's form; None for a request without an adapter.

        Raises:
            UnknownName: There is no such adapter (param "adapter").
        """
        if name is None:
            return None
        if name not in self.names:
            raise UnknownName("adapter", name, self.names, param="adapter")
        from vllm.lora.request import LoRARequest

        index = self.names.index(name)
        return LoRARequest(lora_name=name, lora_int_id=index + 1, lora_path=str(self._folders[index].path))


async def check_effects(engine: Engine, names: Sequence[str]) -> None:
    """Check that each adapter changes the log-probabilities of a text; vLLM ignores weights that it does not know.

    Raises:
        InvalidRequest: An adapter changes nothing (param "lora").
    """
    if not names:
        return
    plain = await engine.score(ScoreRequest(context=_CONTEXT, continuation=_CONTINUATION))
    for name in names:
        adapted = await engine.score(ScoreRequest(context=_CONTEXT, continuation=_CONTINUATION, adapter=name))
        if adapted.logprobs == plain.logprobs:
            message = f"adapter {name} cannot be used: it changes no log-probability of {engine.info.model}"
            raise InvalidRequest(f"{message}; leave it out, or use an adapter that was trained", param="lora")
