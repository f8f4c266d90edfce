"""vLLM's worker with steering: what the CPU and GPU worker classes share, and the calls that the engine makes to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import vllm
from vllm.distributed.communication_op import tensor_model_parallel_all_gather
from vllm.distributed.parallel_state import get_tensor_model_parallel_rank, get_tensor_model_parallel_world_size

from ampsweep.domain.neurons.layer_widths import LayerWidths
from ampsweep.errors import UnsupportedModel
from ampsweep.folders.model import read_widths
from ampsweep.telemetry.start_phase import report_phase
from engine.neurons.neuron_set import NeuronSet
from engine.vllm.backends.base import SteeringBackend
from engine.vllm.backends.cpu import CpuBackend
from engine.vllm.models import qwen3_5
from engine.vllm.options import SteeringOptions, table_entries
from engine.vllm.versions import check_version
from engine.vllm.worker.model import blocks, language_model, lm_head, mlps, rotary, routers
from engine.vllm.worker.model.experts import SteerableExperts
from engine.vllm.worker.outputs.recording import Recording, recording_rows
from engine.vllm.worker.outputs.results import ResultKind
from engine.vllm.worker.outputs.scoring import Scoring
from engine.vllm.worker.overflow import OverflowCheck
from engine.vllm.worker.steering import WorkerSteering


class SteeringWorkerMixin:
    """A mix-in before a vLLM worker class; `additional_config["ampsweep"]` holds its `SteeringOptions`."""

    vllm_config: Any
    model_runner: Any
    device: Any
    _steering: WorkerSteering

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """Load the model as vLLM does, then install steering into it.

        Raises:
            SteeringNotInstalled: The vLLM release is not supported.
            UnsupportedModel: The model cannot be steered.
        """
        options = SteeringOptions(**self.vllm_config.additional_config["ampsweep"])
        check_version(vllm.__version__, allow_untested=options.allow_untested)
        language_model.register()
        qwen3_5.register(self.vllm_config.model_config.hf_text_config.model_type)  # a worker may have its own process
        super().load_model(*args, **kwargs)  # type: ignore[misc]
        report_phase("compiling and warming up")
        self._install(options)

    def _install(self, options: SteeringOptions) -> None:
        """Put steering into the loaded model and its runner."""
        model_config, parallel_config = self.vllm_config.model_config, self.vllm_config.parallel_config
        model = self.model_runner.get_model()
        try:
            widths = read_widths(model_config.hf_text_config.to_dict())
        except ValueError as error:
            raise UnsupportedModel(f"{type(model).__name__} cannot be steered: its {error}", param="model") from error
        layers = range(*model_config.get_layers_start_end_indices(parallel_config))
        model_mlps = mlps.find(
            model,
            layers=layers,
            widths=widths,
            rank=get_tensor_model_parallel_rank(),
            ranks=get_tensor_model_parallel_world_size(),
        )
        backend = self._make_backend(model_mlps, options, widths)
        model_mlps.replace(backend.activation, backend.experts)
        self._warm_up(backend, model_mlps)
        rotary.correct(model)
        routers.correct(model)
        lm_head.correct(model)
        rows = model_mlps.shard.first_rows
        blocks.attach(model, layers=layers, make=lambda position: backend.residual(rows[position]))
        overflow = OverflowCheck() if options.reports_overflow else None
        scoring = Scoring(model.compute_logits)
        self._steering = WorkerSteering(model_mlps.shard, backend, scoring, slots=options.slots, overflow=overflow)
        if self.vllm_config.use_v2_model_runner:
            from engine.vllm.worker.runner_v2 import attach
        else:
            from engine.vllm.worker.runner_v1 import attach
        attach(self.model_runner, self._steering)

    def _make_backend(self, model_mlps: mlps.Mlps, options: SteeringOptions, widths: LayerWidths) -> SteeringBackend:
        """Make the backend that the options name, for a model of these widths."""
        shard, reached = model_mlps.shard, LayerWidths.of_layers(model_mlps.reached).width
        hidden_size = self.vllm_config.model_config.get_hidden_size()
        new_recording = partial(
            Recording, shard, rows=recording_rows(widths), hidden_size=hidden_size, device=self.device
        )
        if options.backend == "cpu":
            return CpuBackend(
                model_mlps.forms,
                width=reached,
                experts=shard.experts,
                slots=options.slots,
                new_recording=new_recording,
                gather=tensor_model_parallel_all_gather,
            )
        from engine.vllm.backends.cuda import CudaBackend

        return CudaBackend(
            model_mlps.forms,
            width=shard.widths.width,
            hidden_size=hidden_size,
            slots=options.slots,
            entries=table_entries(widths, slots=options.slots),
            tokens=_most_tokens(self.vllm_config),
            recording=new_recording(),
            statistics=self.vllm_config.parallel_config.tensor_parallel_size == 1,
            device=self.device,
            experts=shard.experts,
            reached=reached if shard.experts else None,
        )

    def _warm_up(self, backend: SteeringBackend, model_mlps: mlps.Mlps) -> None:
        """Compile the kernels of a backend that has any."""
        if isinstance(backend, CpuBackend):
            return
        from engine.vllm.backends.cuda import CudaBackend

        assert isinstance(backend, CudaBackend)
        dtype = self.vllm_config.model_config.dtype
        backend.warm_up(dtype)
        mixtures = [mlp for mlp in model_mlps.mlps if isinstance(mlp, SteerableExperts)]
        for mlp in {(mlp.form, mlp.experts, mlp.neurons, mlp.each): mlp for mlp in mixtures}.values():
            backend.warm_up_experts(mlp.compute, experts=mlp.experts, each=mlp.each, dtype=dtype)

    def steering_add_neurons(self, neurons: NeuronSet) -> None:
        """Load a neuron set for the requests that name it."""
        self._steering.add_neurons(neurons)

    def steering_drop_neurons(self, neuron_set_id: str) -> None:
        """Drop a neuron set that no request names any more."""
        self._steering.drop_neurons(neuron_set_id)

    def steering_take(self, kind: ResultKind, keys: Sequence[str]) -> Sequence[Any]:
        """Return the results of a kind that this worker has for requests, one for each key, and forget them."""
        return self._steering.results(kind).take(keys)

    def steering_drop(self, kind: ResultKind, key: str) -> None:
        """Forget a result that is not collected."""
        self._steering.results(kind).drop(key)

    def steering_switch(self, positions: Mapping[str, int]) -> None:
        """Switch the steering of requests, each from a position on; see `WorkerSteering.switch`."""
        self._steering.switch(positions)

    def steering_slots_in_use(self) -> int:
        """Return how many slots unfinished requests hold."""
        return self._steering.slots_in_use


def _most_tokens(vllm_config: Any) -> int:
    """Return the most tokens that a step may have, padding included."""
    scheduled: int = vllm_config.scheduler_config.max_num_batched_tokens
    captured: int = vllm_config.compilation_config.max_cudagraph_capture_size or 0
    ranks: int = vllm_config.parallel_config.tensor_parallel_size  # a step may be padded to a multiple of them
    return max(scheduled, captured) + ranks
