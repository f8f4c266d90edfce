"""Steers the requests of a vLLM front end: validates what they ask for, and writes it into what vLLM's core is sent.

A request asks for an intervention in `extra_args["ampsweep"]`, which vLLM's server fills from `vllm_xargs`: JSON text,
an object (from Python only), or the name of a preset.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ampsweep.documents import parse_json
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest, UnknownName
from engine.base import EngineInfo, Steering
from engine.neurons.neuron_set import NeuronSet
from engine.vllm.plugin.configuration import PRESETS, describe, read_neurons, read_presets
from engine.vllm.requests.conversion import cache_salt
from engine.vllm.requests.request_extras import KEY, RequestExtras, steering_args
from engine.vllm.requests.slot_entries import EntryCounts, workers_take_statistics

_FIELD = f"vllm_xargs.{KEY}"
_SALT = "ampsweep/"
"""What the salts of steered requests begin with. No client may give one that does."""
_REMEMBERED = 4096
"""Texts whose interventions are remembered."""


@dataclass(frozen=True, kw_only=True)
class _Resolved:
    steering: Steering
    entries: int


class FrontEnd:
    """The interventions that requests of one front end may ask for.

    Args:
        info: The model.
        neurons: The neuron set of all interventions.
        presets: Interventions by name.
        statistics: Whether the workers support statistics.

    Raises:
        InvalidRequest: A preset does not fit the model or the neuron set.
    """

    def __init__(
        self, info: EngineInfo, neurons: NeuronSet, presets: Mapping[str, Intervention], *, statistics: bool
    ) -> None:
        self._neurons = neurons.id
        self._counts = EntryCounts(info, statistics=statistics)
        self._counts.add(neurons)
        self._presets = {name: self._resolved(intervention, name) for name, intervention in presets.items()}
        self._by_text: dict[str, _Resolved] = {}
        self.steered_requests = 0
        """Requests that were steered."""

    @classmethod
    def open(cls, vllm_config: Any) -> FrontEnd:
        """Return the front end of an engine, with the neuron set and the presets that the environment names."""
        info = describe(vllm_config)
        return cls(info, read_neurons(info), read_presets(), statistics=workers_take_statistics(vllm_config))

    def check(self, extra_args: Mapping[str, Any] | None) -> None:
        """Check what a request asks for.

        Raises:
            InvalidRequest: It cannot be steered so; `param` is the path of the field, from `vllm_xargs` on.
        """
        if extra_args and KEY in extra_args:
            self._resolve(extra_args[KEY])

    def steer(self, request: Any) -> None:
        """Write into a request for vLLM's core what its workers and its scheduler need.

        Args:
            request: An `EngineCoreRequest`; unchanged if it asks for no intervention.

        Raises:
            InvalidRequest: It cannot be steered so, or its cache salt is reserved.
        """
        if request.cache_salt is not None and request.cache_salt.startswith(_SALT):
            raise InvalidRequest(f"cache_salt must not begin with {_SALT!r}; choose another", param="cache_salt")
        params = request.sampling_params
        if params is None or not params.extra_args or KEY not in params.extra_args:
            return
        if request.resumable:
            raise InvalidRequest(f"{_FIELD} is not supported for streamed input; leave it out", param=_FIELD)
        resolved = self._resolve(params.extra_args[KEY])
        ids = request.prompt_token_ids
        tokens = len(request.prompt_embeds if ids is None else ids)
        extras = RequestExtras(steer=steering_args(resolved.steering, tokens, entries=resolved.entries))
        request.sampling_params = copy.copy(params)  # a caller may send the same parameters with several prompts
        request.sampling_params.extra_args = {**params.extra_args, **extras.extra_args()}
        request.cache_salt = f"{_SALT}{cache_salt(resolved.steering, tokens)}/{request.cache_salt or ''}"
        self.steered_requests += params.n

    def _resolve(self, value: object) -> _Resolved:
        if not isinstance(value, str):
            return self._resolved(Intervention.from_dict(value, param=_FIELD), _FIELD)
        if not value.lstrip().startswith("{"):
            if value not in self._presets:
                remedy = None if self._presets else f"{PRESETS} names the file that defines them"
                raise UnknownName("preset", value, self._presets, param=_FIELD, remedy=remedy)
            return self._presets[value]
        resolved = self._by_text.get(value)
        if resolved is None:
            resolved = self._resolved(Intervention.from_dict(_parsed(value), param=_FIELD), _FIELD)
            if len(self._by_text) >= _REMEMBERED:
                self._by_text.clear()
            self._by_text[value] = resolved
        return resolved

    def _resolved(self, intervention: Intervention, field: str) -> _Resolved:
        # This process sees the text of an answer, and the engine's core does not.
        if (name := intervention.text_field) is not None:
            message = f"vLLM's own server cannot switch steering by the text of an answer; leave {name} out, or use"
            raise InvalidRequest(f"{field}.{name}: {message} ampsweep serve", param=f"{field}.{name}")
        steering = Steering(intervention=intervention, neurons=self._neurons)
        try:
            return _Resolved(steering=steering, entries=self._counts.of(steering))
        except InvalidRequest as error:
            raise InvalidRequest(
                error.message, param=(error.param or field).replace("intervention", field, 1)
            ) from error


def _parsed(text: str) -> object:
    try:
        return parse_json(text)
    except InvalidRequest as error:
        raise InvalidRequest(error.message, param=f"{_FIELD}.{error.param}") from error
    except ValueError as error:
        raise InvalidRequest(f"{_FIELD} is neither JSON nor the name of a preset: {error}", param=_FIELD) from error
