"""Checks that the workers can resolve an intervention, and counts the entries of the table that it takes."""

from __future__ import annotations

from typing import Any

from ampsweep.errors import InvalidRequest
from engine.base import EngineInfo, Steering
from engine.neurons.loaded import LoadedNeurons
from engine.neurons.neuron_set import NeuronSet
from engine.vllm.requests.request_extras import steering_key

_REMEMBERED = 65_536
"""Interventions on a neuron set whose entries are remembered: a server may be asked for any number of them."""


def workers_take_statistics(vllm_config: Any) -> bool:
    """Return whether workers support statistics. With the CUDA backend each sees the neurons of its own shard only."""
    backend = vllm_config.additional_config["ampsweep"]["backend"]
    return bool(backend == "cpu" or vllm_config.parallel_config.tensor_parallel_size == 1)


class EntryCounts:
    """The entries of each intervention that was checked, and the neuron sets that interventions may name.

    Args:
        info: The model.
        statistics: Whether the workers support statistics, see `workers_take_statistics`.
    """

    def __init__(self, info: EngineInfo, *, statistics: bool) -> None:
        self._neurons = LoadedNeurons(info)
        self._statistics = statistics
        # By neuron set and slot key. Only keys that resolved are in here, so no invalid intervention reaches a worker.
        self._entries: dict[str, dict[str, int]] = {}

    def add(self, neurons: NeuronSet) -> bool:
        """Load a neuron set; see `LoadedNeurons.add`."""
        return self._neurons.add(neurons)

    def drop(self, neuron_set_id: str) -> bool:
        """Unload a neuron set; see `LoadedNeurons.drop`."""
        self._entries.pop(neuron_set_id, None)
        return self._neurons.drop(neuron_set_id)

    def of(self, steering: Steering) -> int:
        """Return how many entries of the table a steering takes.

        Raises:
            UnknownName: The neuron set is not loaded, or it has no such language.
            InvalidRequest: The workers cannot resolve the intervention on this model.
            NoNeurons: No neuron would be changed.
        """
        if steering.mode == "paper" and steering.intervention.statistic is not None:
            message = "mode 'paper' takes a statistic over a whole forward pass, which requests share on vLLM"
            raise InvalidRequest(f"{message}; use the engine transformers, or mode 'corrected'", param="mode")
        key = steering_key(steering)
        entries = self._entries.get(steering.neurons, {})
        if key not in entries:
            edits = self._neurons.resolve(steering)
            if edits.statistic is not None and not self._statistics:
                message = "statistics are not supported with tensor parallelism; use one GPU or backend 'cpu'"
                raise InvalidRequest(message, param="intervention.statistic")
            entries = self._entries.setdefault(steering.neurons, {})
            if len(entries) >= _REMEMBERED:
                entries.clear()
            entries[key] = len(edits.indices)
        return entries[key]
