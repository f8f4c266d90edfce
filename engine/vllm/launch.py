"""Starts vLLM with steering: its environment, arguments and worker class. Reads the model of the started engine.

The engine's core runs in this process, not in one of its own. The model runner is vLLM's default on a GPU and V1 on a
CPU.
"""

from __future__ import annotations

import atexit
import gc
import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ampsweep.errors import InvalidRequest
from ampsweep.folders.model import fingerprint
from ampsweep.folders.weights import weight_files
from ampsweep.telemetry.start_phase import report_phase
from ampsweep.temporary import TemporaryFolder
from engine.vllm.options import UNFUSED_EXPERTS, BackendName, SteeringOptions
from engine.vllm.settings import RunnerName, VllmSettings
from engine.vllm.versions import check_version

if TYPE_CHECKING:
    from vllm import LLMEngine
    from vllm.platforms import Platform

    from engine.vllm.adapters import Adapters

_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # its default is standard output, which belongs to results
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_REGEX_COMPILATION_TIMEOUT_S": "1",  # of structured outputs; meanwhile the engine does not step
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Environment variables, set unless the user has set them; those in `_REQUIRED` are always set."""
_REQUIRED = ("VLLM_ENABLE_V1_MULTIPROCESSING",)
_V2_RUNNER = "VLLM_USE_V2_MODEL_RUNNER"
_FLOAT32_PRODUCTS = "TRITON_F32_DEFAULT"
"""How Triton multiplies matrices in float32."""
_BATCH_INVARIANT = "VLLM_BATCH_INVARIANT"
_BATCH_INVARIANT_CAPABILITY = 80
"""The least compute capability (8.0) of NVIDIA GPUs for which vLLM has batch-invariant kernels."""
_CPU_BLOCK = 32
"""The smallest block of the prefix cache on a CPU, in tokens."""
_LLVMLITE = "llvmlite.binding.ffi"
_WORKERS = {  # by whether the engine runs on a CPU
    True: "engine.vllm.worker.cpu.SteeringCPUWorker",
    False: "engine.vllm.worker.gpu.SteeringGPUWorker",
}


def start_llm_engine(folder: Path, *, dtype: str, settings: VllmSettings) -> LLMEngine:
    """Load a model folder into an LLMEngine whose workers steer.

    Args:
        folder: A Hugging Face model folder.
        dtype: "float32", "bfloat16" or "float16".
        settings: How vLLM is run.

    Returns:
        The engine, whose core runs in this process.

    Raises:
        InvalidRequest: The device has no batch-invariant mode, an adapter cannot be used with the model, or a file was
            changed while it was loaded.
        SteeringNotInstalled: The patch does not support this vLLM release.
        UnsupportedModel: The model cannot be steered, or vLLM cannot run its blocks or its quantized weights here.
    """
    _set_environment(dtype, batch_invariant=settings.batch_invariant)
    _import_vllm()
    from vllm import envs
    from vllm.platforms import current_platform

    from engine.vllm.adapters import Adapters

    on_cpu = current_platform.is_cpu()
    config = _supported_config(folder, dtype=dtype, settings=settings)
    _choose_runner(settings.runner or ("v1" if on_cpu else None))
    atexit.register(kill_workers)  # before the handler of multiprocessing, which is registered by now
    envs.disable_envs_cache()  # vLLM keeps what it read for the process's first engine, its runner too
    arguments = _engine_arguments(settings, dtype=dtype, on_cpu=on_cpu)
    adapters = Adapters.read(settings.adapters, model=folder)
    arguments |= adapters.arguments(on_cpu=on_cpu) | _model_arguments(folder, config, on_cpu=on_cpu)
    _patch_vllm(config)
    # vLLM collects garbage several times while it starts, each time among all that has been imported.
    gc.collect()
    gc.freeze()
    report_phase("loading the model")
    model_fingerprint = fingerprint(folder)
    engine = _load(folder, arguments, adapters)
    try:
        adapters.load(engine)
        _patch_engine(engine)
        _check_unchanged(folder, model_fingerprint, adapters, settings.adapters)
    except BaseException:
        engine.engine_core.shutdown()
        raise
    return engine


def _import_vllm() -> None:
    """Import vLLM and the modules that depend on it, which takes seconds."""
    with _without_garbage_collection():
        import numba  # noqa: F401  # must be imported completely before `_hidden_from_vllm`
        from vllm import EngineArgs, LLMEngine  # noqa: F401

        from engine.vllm import adapters, interactive, patches  # noqa: F401


def _supported_config(folder: Path, *, dtype: str, settings: VllmSettings) -> Any:
    """Return the config of a model, after checks that this vLLM can steer it on this device; None if it has none.

    Raises:
        InvalidRequest: The device has no batch-invariant mode.
        SteeringNotInstalled: The patch does not support this vLLM release.
        UnsupportedModel: vLLM cannot run the model's blocks or its quantized weights here, or they cannot be steered.
    """
    import vllm
    from vllm.platforms import current_platform

    from engine.checkpoint import read_config, read_quantization
    from engine.vllm.models.platform_support import check_platform
    from engine.vllm.models.quantization import CpuKernels, check_quantization

    check_version(vllm.__version__, allow_untested=settings.allow_untested)
    if settings.batch_invariant:
        _check_batch_invariance(current_platform, unfused_experts=settings.unfused_experts)
    on_cpu = current_platform.is_cpu()
    if (quantization := read_quantization(folder)) is not None:
        check_quantization(quantization, dtype=dtype, cpu=CpuKernels.of_this_machine() if on_cpu else None)
    config = read_config(folder)
    check_platform(
        config,
        dtype=dtype,
        on_cpu=on_cpu,
        quantization=quantization,
        unfused_experts=settings.unfused_experts,
    )
    return config


def _patch_vllm(config: Any) -> None:
    """Change what vLLM does in every engine of this process, and register what it needs for a model."""
    from engine.vllm.models import qwen3_5
    from engine.vllm.patches import begin_texts_after_prompts, skip_logprob_texts

    if config is not None:
        qwen3_5.register(config.get_text_config().model_type)
    skip_logprob_texts()
    begin_texts_after_prompts()


def _load(folder: Path, arguments: dict[str, Any], adapters: Adapters) -> LLMEngine:
    """Start vLLM with these arguments on a model's weights."""
    from vllm import EngineArgs, LLMEngine
    from vllm.usage.usage_lib import UsageContext

    with _hidden_from_vllm(), _without_other_weights(folder) as shown, adapters.explained(folder):
        # As for its own server, vLLM lets steps have more tokens on a large GPU than by the default of this method.
        context = UsageContext.OPENAI_API_SERVER
        return LLMEngine.from_engine_args(EngineArgs(model=str(shown), **arguments), usage_context=context)


def _patch_engine(engine: LLMEngine) -> None:
    """Change how one engine names and schedules requests, and which blocks of the prefix cache they share."""
    from engine.vllm.interactive import prefer_interactive_requests
    from engine.vllm.patches import keep_request_ids, limit_prefix_reads, separate_switched_blocks

    keep_request_ids(engine)
    limit_prefix_reads(engine)
    separate_switched_blocks(engine)
    prefer_interactive_requests(engine)


def kill_workers() -> None:
    """Kill the worker processes of engines that have not been shut down: those that still start when this process ends.

    Python itself would send them SIGTERM once and then wait for them. A worker of vLLM answers the first SIGTERM with
    SystemExit and ignores all others. If a library catches the exception, as some do while they are imported or while
    they compile, the worker never ends.
    """
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def _check_unchanged(folder: Path, before: str, adapters: Adapters, paths: Mapping[str, Path]) -> None:
    """Raise InvalidRequest if a file of the model or of an adapter has changed since the engine began to load it.

    Args:
        folder: The folder of the model.
        before: Its fingerprint before.
        adapters: The adapters before.
        paths: The folders of the adapters, by name.
    """
    after = adapters.read(paths, model=folder).fingerprints
    changed = [f"adapter {name}" for name, digest in adapters.fingerprints.items() if after[name] != digest]
    if fingerprint(folder) != before:
        changed.append(f"model {folder.name}")
    if changed:
        message = f"{' and '.join(changed)} was changed while it was loaded; wait until its files are complete"
        raise InvalidRequest(f"{message}, then start again", param="model")


def _set_environment(dtype: str, *, batch_invariant: bool) -> None:
    """Set the variables that vLLM reads when it is imported."""
    for name, value in _ENVIRONMENT.items():
        if name in _REQUIRED:
            os.environ[name] = value
        else:
            os.environ.setdefault(name, value)
    if dtype == "float32":  # vLLM's attention for float32 is a Triton kernel, which would multiply in TF32
        os.environ.setdefault(_FLOAT32_PRODUCTS, "ieee")
    os.environ[_BATCH_INVARIANT] = str(int(batch_invariant))


def _engine_arguments(settings: VllmSettings, *, dtype: str, on_cpu: bool) -> dict[str, Any]:
    """Return vLLM's arguments, except those of the model and of adapters."""
    from vllm.config import StructuredOutputsConfig

    backend = settings.backend or ("cpu" if on_cpu else "cuda")
    return {
        # Every engine reads the Hugging Face format, even if the folder also has others.
        "config_format": "hf",
        "load_format": "safetensors",
        "tokenizer_mode": "hf",
        "dtype": dtype,
        "worker_cls": _WORKERS[on_cpu],
        "distributed_executor_backend": "uni" if settings.workers == 1 else "mp",
        "tensor_parallel_size": settings.tensor_parallel_size,
        "pipeline_parallel_size": settings.pipeline_parallel_size,
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.max_num_seqs,
        "block_size": settings.block_size or (_CPU_BLOCK if on_cpu else None),
        "max_num_batched_tokens": settings.max_num_batched_tokens,
        "scheduling_policy": "priority",
        "enable_prefix_caching": settings.prefix_caching,
        "kv_cache_memory_bytes": settings.kv_cache_bytes or (1024**3 if on_cpu else None),
        # With the CPU backend a captured CUDA graph would replay the interventions of the batch it was captured with.
        "enforce_eager": not settings.compile or (backend == "cpu" and not on_cpu),
        "async_scheduling": settings.async_scheduling,
        "additional_config": {"ampsweep": asdict(_steering_options(settings, backend))},
        "language_model_only": True,  # for the multimodal models that `language_model_arguments` does not know
        # With "auto" the first request chooses the backend for all, and others may compile a schema only in part.
        "structured_outputs_config": StructuredOutputsConfig(backend="xgrammar"),
        "disable_log_stats": True,
        "seed": 0,
    }


def _model_arguments(folder: Path, config: Any, *, on_cpu: bool) -> dict[str, Any]:
    """Return the arguments that a model needs: those of multimodal models, and those of DeepSeek's families."""
    from engine.vllm.models.deepseek import deepseek_arguments
    from engine.vllm.models.language_model import language_model_arguments

    return language_model_arguments(folder) | deepseek_arguments(config, on_cpu=on_cpu)


class LoadedModel(NamedTuple):
    """What a started engine reports about its model.

    Attributes:
        tokenizer: Its Hugging Face tokenizer.
        model_class: The name of its class.
        max_model_len: Context length in tokens.
        embedding_rows: Rows of the input embedding.
        hidden_size: Size of the residual stream.
    """

    tokenizer: Any
    model_class: str
    max_model_len: int
    embedding_rows: int
    hidden_size: int


def loaded_model(engine: LLMEngine) -> LoadedModel:
    """Return what the engine reports about its model."""
    config = engine.model_config
    return LoadedModel(
        tokenizer=engine.get_tokenizer(),
        model_class=config.architectures[0],
        max_model_len=config.max_model_len,
        embedding_rows=config.get_vocab_size(),
        hidden_size=config.get_hidden_size(),
    )


def backend_of(engine: LLMEngine) -> BackendName:
    """Return the steering backend of the workers."""
    backend: BackendName = engine.vllm_config.additional_config["ampsweep"]["backend"]
    return backend


def require_capture(engine: LLMEngine) -> None:
    """Raise InvalidRequest if steps are replayed from CUDA graphs, in which the host has no place (param "engine")."""
    if backend_of(engine) == "cuda" and not engine.vllm_config.model_config.enforce_eager:
        message = "activations cannot be captured from CUDA graphs, with which servers and --compile run vLLM; use"
        raise InvalidRequest(
            f"{message} `ampsweep capture` without --compile, or the engine transformers", param="engine"
        )


def _steering_options(settings: VllmSettings, backend: BackendName) -> SteeringOptions:
    return SteeringOptions(
        slots=settings.slots,
        backend=backend,
        allow_untested=settings.allow_untested,
        unfused_experts=settings.unfused_experts,
    )


def _check_batch_invariance(platform: Platform, *, unfused_experts: bool) -> None:
    """Raise InvalidRequest if there are no batch-invariant kernels for the device, or for the experts."""
    if unfused_experts:
        message = f"{UNFUSED_EXPERTS} has no batch-invariant kernels; leave it out, or leave out --batch-invariant"
        raise InvalidRequest(message, param="batch_invariant")
    remedy = "use such a GPU, or leave out --batch-invariant"
    least = f"{_BATCH_INVARIANT_CAPABILITY // 10}.{_BATCH_INVARIANT_CAPABILITY % 10}"
    needs = f"batch-invariant mode requires an NVIDIA GPU of compute capability {least} or higher"
    if platform.is_cpu():
        raise InvalidRequest(f"{needs}, and vLLM runs on a CPU here; {remedy}", param="batch_invariant")
    if platform.is_cuda() and not platform.has_device_capability(_BATCH_INVARIANT_CAPABILITY):
        device = f"{platform.get_device_name()} has {platform.get_device_capability()}"
        raise InvalidRequest(f"{needs}; {device}; {remedy}", param="batch_invariant")


def _choose_runner(runner: RunnerName | None) -> None:
    """Make vLLM use this model runner; None leaves the choice to vLLM and to the user's environment."""
    if runner is not None:
        os.environ[_V2_RUNNER] = str(int(runner == "v2"))


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Turn garbage collection off for the block: it takes a fifth of the time in which vLLM is imported."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def _without_other_weights(folder: Path) -> Iterator[Path]:
    """Yield a folder with the model's weights and no others, because vLLM reads every safetensors file it finds."""
    others = set(folder.glob("*.safetensors")) - set(weight_files(folder))
    if not others:
        yield folder
        return
    with TemporaryFolder("model") as shown:
        for path in folder.iterdir():
            if path not in others:
                (shown / path.name).symlink_to(path.resolve())
        yield shown


@contextmanager
def _hidden_from_vllm() -> Iterator[None]:
    """Remove llvmlite's library object from `sys.modules` for the block.

    At start vLLM reads attributes of every module there. This object has every attribute, `__dict__` included, with
    values that vLLM cannot read. Numba has been imported before and finds the module through its package.
    """
    hidden = sys.modules.pop(_LLVMLITE)
    try:
        yield
    finally:
        sys.modules[_LLVMLITE] = hidden
