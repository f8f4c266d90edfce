"""Looks up what the name of a model means: the model alone, or a model and a preset that steers it (`MODEL+PRESET`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from ampsweep.errors import InvalidRequest, NotFound, UnknownName
from api.openai.vllm_xargs import STEERING_FIELD
from jobs.execution import CaptureCall, CompletionCall
from jobs.planning.catalog import Catalog
from jobs.presets import Preset, Presets

Call = TypeVar("Call", CompletionCall, CaptureCall)


class PresetSource(Protocol):
    """What `with_presets` looks names up in; `Services` and `OpenAIRows` have these attributes."""

    @property
    def catalog(self) -> Catalog:
        """The models."""
        ...

    @property
    def presets(self) -> Presets:
        """The named interventions."""
        ...


def _intervention(_call: int) -> str:
    return "intervention"


async def with_presets(
    source: PresetSource, calls: Sequence[Call], param_of: Callable[[int], str] = _intervention
) -> list[Call]:
    """Return the calls of one request with the model and the intervention that the name of their model means.

    The neuron set that the request names steers, else that of the preset. An unsteered completion has none.

    Args:
        source: Where names are looked up.
        calls: The calls.
        param_of: Returns the field that has the intervention of the i-th call.

    Raises:
        UnknownName: There is no such preset for the model (param "model", or the field with the name of the preset).
        InvalidRequest: The request has an intervention besides its preset (param: the field that has it), or names a
            neuron set although nothing uses it (param "neurons").
    """
    calls = await _resolved(source, calls, param_of)
    used = [call.intervention is not None or _selects_languages(call) for call in calls]
    if not any(used) and any(call.neurons is not None for call in calls):
        other = "" if isinstance(calls[0], CompletionCall) else "select.languages or "
        message = f"neurons: has no effect without {other}an intervention; add one, or leave neurons out"
        raise InvalidRequest(message, param="neurons")
    return [call if is_used else replace(call, neurons=None) for call, is_used in zip(calls, used, strict=True)]


def _selects_languages(call: CompletionCall | CaptureCall) -> bool:
    return isinstance(call, CaptureCall) and call.needs_neuron_set


async def _resolved(source: PresetSource, calls: Sequence[Call], param_of: Callable[[int], str]) -> list[Call]:
    """Return the calls with the model and the intervention that the name of their model means."""
    name, param = calls[0].model, "model"
    named = calls[0].preset if isinstance(calls[0], CompletionCall) else None
    if named is not None:
        await asyncio.to_thread(_require_unsteered, source, name)
        name, param = f"{name}+{named}", STEERING_FIELD
    elif name in source.catalog.models:
        return list(calls)
    preset, model = await asyncio.to_thread(_chosen, source, name, param)
    if preset is None:
        return list(calls)  # an unknown model
    for index, call in enumerate(calls):
        if call.intervention is not None:
            raise _steered_twice(name, preset, model, param=param_of(index))
    return [
        replace(call, model=model, intervention=preset.intervention, neurons=call.neurons or preset.neurons)
        for call in calls
    ]


def _require_unsteered(source: PresetSource, name: str) -> None:
    """Raise InvalidRequest if the name of the model chooses a preset although another field of the request does."""
    if name not in source.catalog.models:
        preset, model = _chosen(source, name)
        if preset is not None:
            raise _steered_twice(name, preset, model, param=STEERING_FIELD)


def _steered_twice(name: str, preset: Preset, model: str, *, param: str) -> InvalidRequest:
    """Return the error about the field `param`, which steers although the name of the model chooses a preset."""
    remedy = f"leave {param.split('.')[0]} out, or name {model!r}"
    return InvalidRequest(f"{name!r} is steered by the intervention {preset.name!r}; {remedy}", param=param)


async def model_of(source: PresetSource, name: str) -> str:
    """Return the model that a name such as `NAME` or `NAME+PRESET` stands for; raise the errors of `with_presets`."""
    if name in source.catalog.models:
        return name
    _, model = await asyncio.to_thread(_chosen, source, name)
    return model


def _chosen(source: PresetSource, name: str, param: str = "model") -> tuple[Preset | None, str]:
    """Return the preset that the name of a model chooses, and the model that it steers; None for an unknown name.

    Errors are about the field `param`.
    """
    model, plus, preset_name = name.rpartition("+")
    try:
        preset = source.presets.get(preset_name)
    except NotFound:
        if plus and model in source.catalog.models:
            known = [preset.name for preset in source.presets.all()]
            remedy = None if known else "POST /v1/interventions creates one"
            raise UnknownName("preset", preset_name, known, param=param, remedy=remedy) from None
        return None, name
    if plus:
        if preset.model not in (None, model):
            message = f"the preset {preset.name!r} steers {preset.model!r} only, not {model!r}; name another preset"
            raise InvalidRequest(message, param=param)
        return preset, model
    return (None, name) if preset.model is None else (preset, preset.model)
