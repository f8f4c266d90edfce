"""The LoRA adapters of an engine on vLLM.

Adapters are loaded when the engine starts. Each request names one or none, and requests with different adapters share a
batch. vLLM keeps separate prefix-cache blocks for each adapter.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampsweep.errors import InvalidRequest, UnknownName
from ampsweep.folders.adapter import (
    CONFIG,
    PREFIX,
    WEIGHTS,
    AdapterFolder,
    check_adapter,
    read_adapter,
    stored_shapes,
    unusable,
)
from ampsweep.folders.weights import language_model_weight, read_header
from ampsweep.temporary import TemporaryFolder
from engine.base import Engine, ScoreRequest

if TYPE_CHECKING:
    from vllm import LLMEngine
    from vllm.lora.request import LoRARequest

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The maximum ranks that vLLM has kernels for."""
_MAX_ON_GPU = 8
"""Adapters in a batch on a GPU, at most; requests with further ones wait. Memory for them is reserved at the start."""
_JOINED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Projections that vLLM joins to one; it reserves memory for all of them if an adapter changes one."""
_NO_LORA = "does not support LoRA"
"""In vLLM's error about a class of models without adapters."""
Shapes = Mapping[str, tuple[int, int] | None]
_CONTEXT, _CONTINUATION = "0 1 2 3 4 5", " 6 7 8 9"


class Adapters:
    """The adapters of an engine, by name."""

    def __init__(self, folders: Sequence[AdapterFolder], *, model: str, shapes: Shapes) -> None:
        """Check that the adapters belong to the model.

        Args:
            folders: The adapters.
            model: The name of the model, for errors.
            shapes: The shapes of the model's weights, see `ampsweep.folders.adapter.stored_shapes`.

        Raises:
            InvalidRequest: An adapter cannot be used with the model (param "lora").
        """
        self._folders, self._shapes = tuple(folders), shapes
        for folder in folders:
            check_adapter(folder, shapes, model=model)
            if folder.rank > _RANKS[-1]:
                raise unusable(folder.name, f"its rank {folder.rank} exceeds {_RANKS[-1]}; merge it into the model")

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
        return cls(folders, model=model.name, shapes=stored_shapes(model) if folders else {})

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the adapters."""
        return tuple(folder.name for folder in self._folders)

    @property
    def fingerprints(self) -> dict[str, str]:
        """The hash of each adapter's files, by its name."""
        return {folder.name: folder.fingerprint for folder in self._folders}

    def arguments(self, *, on_cpu: bool) -> dict[str, Any]:
        """Return vLLM's arguments for a model with these adapters; none without adapters.

        Only the projections that an adapter changes are replaced by vLLM's LoRA layers, never the head. On a CPU there
        is one more slot than adapters. If other requests of a batch have an adapter, vLLM applies the last slot to
        tokens without one, because their index is -1; this slot is empty and adds 0.
        """
        if not self._folders:
            return {}
        slots = self._slots(on_cpu=on_cpu)
        return {
            "enable_lora": True,
            "max_loras": slots,
            "max_cpu_loras": max(slots, len(self._folders)),
            "max_lora_rank": self._rank,
            "lora_target_modules": sorted(self._targets),
        }

    def memory_bytes(self, *, dtype: str, on_cpu: bool) -> int:
        """Return the size of what vLLM reserves for adapters on the device, and of the adapters themselves on a CPU.

        vLLM reserves in every layer, for each slot, matrices of the largest rank for the projections that some adapter
        changes, and for those that it joins with them.

        Args:
            dtype: Data type of the engine, "float32", "bfloat16" or "float16".
            on_cpu: Whether vLLM runs on a CPU.
        """
        if not self._folders:
            return 0
        targets = self._targets.union(*(group for group in _JOINED if self._targets.intersection(group)))
        changed = [shape for part, shape in self._shapes.items() if shape and part.rpartition(".")[2] in targets]
        reserved = self._slots(on_cpu=on_cpu) * self._rank * sum(map(sum, changed))
        copies = sum(folder.values for folder in self._folders) if on_cpu else 0
        return (reserved + copies) * (4 if dtype == "float32" else 2)

    @contextmanager
    def explained(self, model: Path) -> Iterator[None]:
        """Raise InvalidRequest (param "lora") where vLLM, in the block, rejects a model because it cannot adapt it."""
        try:
            yield
        except ValueError as error:
            if _NO_LORA not in str(error):
                raise
            message = f"adapters {', '.join(self.names)} cannot be used: vLLM's class of {model.name} has no LoRA"
            raise InvalidRequest(
                f"{message} ({str(error).rstrip('.')}); merge the adapter into the model", param="lora"
            ) from error

    def load(self, engine: LLMEngine) -> None:
        """Load all adapters into the workers, where they stay; one that does not fit fails the start, not a later step.

        Raises:
            InvalidRequest: vLLM cannot load an adapter (param "lora").
        """
        if not self._folders:
            return
        from vllm.lora.request import LoRARequest

        for index, folder in enumerate(self._folders):
            with _of_the_language_model(folder) as shown:
                try:
                    engine.add_lora(
                        LoRARequest(lora_name=folder.name, lora_int_id=index + 1, lora_path=str(shown.resolve()))
                    )
                except (ValueError, RuntimeError, AssertionError) as error:
                    raise unusable(folder.name, f"vLLM does not load it: {error}; merge it into the model") from error

    @property
    def _rank(self) -> int:
        """The least maximum rank that vLLM has kernels for and that all adapters fit into."""
        rank = max(folder.rank for folder in self._folders)
        return next(allowed for allowed in _RANKS if allowed >= rank)

    @property
    def _targets(self) -> frozenset[str]:
        return frozenset(target for folder in self._folders for target in folder.targets)

    def _slots(self, *, on_cpu: bool) -> int:
        return len(self._folders) + 1 if on_cpu else min(len(self._folders), _MAX_ON_GPU)

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


@contextmanager
def _of_the_language_model(folder: AdapterFolder) -> Iterator[Path]:
    """Yield the folder of an adapter whose modules have the names of the language model alone, which vLLM loads."""
    if all(language_model_weight(module) == module for module in folder.modules):
        yield folder.path
        return
    with TemporaryFolder("adapter") as renamed:
        shutil.copy(folder.path / CONFIG, renamed)
        start, entries = read_header(folder.path / WEIGHTS)
        header = {
            f"{PREFIX}{language_model_weight(name.removeprefix(PREFIX))}": entry for name, entry in entries.items()
        }
        content = json.dumps(header).encode()
        content += b" " * (-len(content) % 8)  # tensors begin at a multiple of 8 bytes
        with (folder.path / WEIGHTS).open("rb") as source, (renamed / WEIGHTS).open("wb") as target:
            source.seek(start)
            target.write(len(content).to_bytes(8, "little") + content)
            shutil.copyfileobj(source, target)
        yield renamed


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
