"""Changes the configuration of a vLLM engine so that its workers steer, and rejects what cannot be steered."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ampsweep.documents import read_spec
from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest, SteeringNotInstalled, UnsupportedModel
from ampsweep.folders.model import ModelFolder, read_widths
from ampsweep.vllm_plugin import NEURONS
from engine.base import EngineInfo
from engine.neurons.formats.neuron_file import read_neuron_file
from engine.neurons.neuron_set import NeuronSet
from engine.vllm.options import UNFUSED_EXPERTS_VARIABLE, SteeringOptions
from engine.vllm.versions import check_version

PRESETS = "AMPSWEEP_PRESETS"
SLOTS = "AMPSWEEP_SLOTS"
ALLOW_UNTESTED = "AMPSWEEP_ALLOW_UNTESTED_VLLM"

_DEFAULT_SLOTS = 256
_BATCH_INVARIANT = "VLLM_BATCH_INVARIANT"
"""vLLM's own variable for its batch-invariant mode."""
_OPTIONS = "ampsweep"
_MARK = "ampsweep_plugin"
_RELEASES = ("0.32.0",)
_WORKERS = {
    "vllm.v1.worker.cpu_worker.CPUWorker": "engine.vllm.worker.cpu.SteeringCPUWorker",
    "vllm.v1.worker.gpu_worker.Worker": "engine.vllm.worker.gpu.SteeringGPUWorker",
}
"""The steered worker class of each of vLLM's."""


def is_steered(vllm_config: Any) -> bool:
    """Return whether this plug-in steers the engine of a configuration; False for Ampsweep's own engine."""
    config = vllm_config.additional_config
    return isinstance(config, dict) and _MARK in config


def configure(vllm_config: Any, environment: Mapping[str, str] = os.environ) -> None:
    """Make the workers of an engine steer.

    Args:
        vllm_config: vLLM's configuration, complete but not yet used.
        environment: The environment variables.

    Raises:
        InvalidRequest: An environment variable is wrong, or an option of vLLM cannot be combined with steering.
        SteeringNotInstalled: The plug-in was never tested with this release of vLLM.
        UnsupportedModel: The model cannot be steered.
    """
    if not isinstance(vllm_config.additional_config, dict):
        message = f"--additional-config must be an object of JSON with {NEURONS}; leave it out"
        raise InvalidRequest(message, param="additional_config")
    if _OPTIONS in vllm_config.additional_config:  # the product's own engine, or configured before
        return
    import vllm
    from vllm.platforms import current_platform

    allow_untested = _is_set(ALLOW_UNTESTED, environment)
    check_version(vllm.__version__, allow_untested=allow_untested)
    if vllm.__version__.split("+")[0] not in _RELEASES and not allow_untested:
        raise SteeringNotInstalled(
            f"the plug-in was never tested with vLLM {vllm.__version__}; install one of: {', '.join(_RELEASES)}, "
            f"or set {ALLOW_UNTESTED}=1",
            param="engine",
        )
    _reject_unsupported(vllm_config)
    worker = vllm_config.parallel_config.worker_cls
    if worker not in _WORKERS:
        raise InvalidRequest(
            f"vLLM's worker {worker} cannot be steered; leave --worker-cls out, or unset {NEURONS}", param="worker_cls"
        )
    unfused_experts = _is_set(UNFUSED_EXPERTS_VARIABLE, environment)
    if unfused_experts and _is_set(_BATCH_INVARIANT, environment):
        message = f"{UNFUSED_EXPERTS_VARIABLE} has no batch-invariant kernels; unset it, or unset {_BATCH_INVARIANT}"
        raise InvalidRequest(message, param=UNFUSED_EXPERTS_VARIABLE)
    options = SteeringOptions(
        slots=_slots(environment),
        backend="cpu" if current_platform.is_cpu() else "cuda",
        allow_untested=allow_untested,
        unfused_experts=unfused_experts,
        reports_overflow=True,
    )
    vllm_config.parallel_config.worker_cls = _WORKERS[worker]
    vllm_config.additional_config |= {_OPTIONS: asdict(options), _MARK: True}


def describe(vllm_config: Any) -> EngineInfo:
    """Return what interventions depend on of an engine's model.

    Raises:
        UnsupportedModel: Its config does not give the number of layers and neurons.
    """
    model = vllm_config.model_config
    try:
        widths = read_widths(model.hf_text_config.to_dict())
    except ValueError as error:
        raise UnsupportedModel(f"{model.model} cannot be steered: its {error}", param="model") from error
    return EngineInfo(
        kind="vllm",
        model=Path(model.model).name,
        fingerprint="",
        model_class=model.architectures[0],
        layers=widths.layers,
        width=widths.width,
        hidden_size=model.get_hidden_size(),
        dtype=str(model.dtype).removeprefix("torch."),
        max_model_len=model.max_model_len,
    )


def read_neurons(info: EngineInfo, environment: Mapping[str, str] = os.environ) -> NeuronSet:
    """Return the neuron set that the environment names.

    Raises:
        InvalidRequest: It cannot be read, or it was made for a model of another shape (param AMPSWEEP_NEURONS).
        NotFound: There is no such file or folder.
    """
    path = Path(environment[NEURONS])
    try:
        if path.is_dir():
            neurons = NeuronSet.load(path)
        else:
            model = ModelFolder(name=info.model, fingerprint=info.fingerprint, layers=info.layers, width=info.width)
            neurons = read_neuron_file(path, model=model, languages=None)
        neurons.check_widths(info.widths, model=info.model)
    except OSError as error:
        raise InvalidRequest(f"{NEURONS}: cannot read {path}: {error.strerror}", param=NEURONS) from error
    except InvalidRequest as error:
        raise InvalidRequest(f"{NEURONS}: {error.message}", param=NEURONS) from error
    return neurons


def read_presets(environment: Mapping[str, str] = os.environ) -> dict[str, Intervention]:
    """Return the interventions of the presets file by name; none without a file.

    Raises:
        InvalidRequest: The file cannot be read, or an intervention is wrong (param AMPSWEEP_PRESETS).
    """
    if not (path := environment.get(PRESETS)):
        return {}
    raw = read_spec(Path(path), param=PRESETS)
    if nameless := [name for name in raw if not isinstance(name, str) or name.lstrip().startswith("{")]:
        raise InvalidRequest(f"{PRESETS}: {nameless[0]!r} cannot be a preset's name; use a word", param=PRESETS)
    try:
        return {name: Intervention.from_dict(fields, param=name) for name, fields in raw.items()}
    except InvalidRequest as error:
        raise InvalidRequest(f"{PRESETS}: {error.message}", param=PRESETS) from error


def _is_set(name: str, environment: Mapping[str, str]) -> bool:
    return environment.get(name, "").lower() in ("1", "true", "yes")


def _slots(environment: Mapping[str, str]) -> int:
    text = environment.get(SLOTS) or str(_DEFAULT_SLOTS)
    if not text.isdecimal() or not int(text):
        raise InvalidRequest(f"{SLOTS} must be a whole number of at least 1; got {text!r}", param=SLOTS)
    return int(text)


def _reject_unsupported(vllm_config: Any) -> None:
    """Raise InvalidRequest for an option of vLLM with which a request could run wrongly steered."""
    parallel = vllm_config.parallel_config
    rejected = {
        "speculative_config": vllm_config.speculative_config is not None,
        "runner": vllm_config.model_config.runner_type != "generate",
        "kv_sharing_fast_prefill": vllm_config.cache_config.kv_sharing_fast_prefill,
        # With these, a forward pass has only a part of the tokens that the slots are written for.
        "enable_dbo": parallel.enable_dbo,
        "ubatch_size": parallel.ubatch_size > 1,
        "prefill_context_parallel_size": parallel.prefill_context_parallel_size > 1,
    }
    for name, given in rejected.items():
        if given:
            option = f"--{name.replace('_', '-')}"
            raise InvalidRequest(f"{option} is not supported with {NEURONS}; leave one of them out", param=name)
