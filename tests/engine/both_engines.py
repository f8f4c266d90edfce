"""A vLLM engine and the reference implementation on the same tiny model, with an event loop, for a test module."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ampsweep.domain.intervention import Intervention
from benchmarks.comparisons.checksum_identifier import ChecksumIdentifier
from benchmarks.comparisons.mixed_load import random_neurons
from benchmarks.models.families import Family, tiny_model
from engine.base import Engine, Steering
from engine.hf.engine import TransformersEngine
from engine.neurons.neuron_set import NeuronSet
from engine.vllm.engine import VllmEngine
from engine.vllm.settings import VllmSettings

T = TypeVar("T")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'system' %}{{ raise_exception('no system messages') }}{% endif %}"
    "<s>{{ message.role }}: {{ message.content }}\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}assistant:\n{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class Both:
    """The two engines, which have the same neuron set, and the event loop that they run in."""

    vllm: VllmEngine
    reference: TransformersEngine
    neurons: NeuronSet
    runner: asyncio.Runner

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def steering(
        self, languages: list[str] | dict[str, float], op: str, factor: float | None, **more: object
    ) -> Steering:
        raw = {"languages": languages, "op": op, "factor": factor, **more}
        return Steering(intervention=Intervention.from_dict(raw), neurons=self.neurons.id)


@contextmanager
def both_engines(family: Family, folder: Path, settings: VllmSettings) -> Iterator[Both]:
    """Open the two engines on a tiny model of `family` with a chat template, and close them after the block."""
    tiny_model(family, folder)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    reference = TransformersEngine(folder, open_identifier=ChecksumIdentifier)
    neurons = random_neurons(reference.info)
    with asyncio.Runner() as runner:
        vllm = runner.run(VllmEngine.open(folder, settings=settings, open_identifier=ChecksumIdentifier))
        engines: tuple[Engine, ...] = (vllm, reference)
        for engine in engines:
            engine.add_neurons(neurons)
        yield Both(vllm=vllm, reference=reference, neurons=neurons, runner=runner)
        for engine in engines:
            runner.run(engine.close())
