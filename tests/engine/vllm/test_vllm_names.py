"""The internals of vLLM that the patch relies on. A release that changed one of them fails here, by its name.

Nothing of vLLM is imported: the names are read from its source. The release is the installed one and, if
AMPSWEEP_VLLM_WHEEL names the folder of an unpacked wheel, that one too. Signatures list the parameters that the patch
uses; orders are those of calls in the source of a method.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.engine.vllm.vllm_source import MissingName, VllmSource

WHEEL = "AMPSWEEP_VLLM_WHEEL"
V1 = "vllm.v1.worker.gpu_model_runner:GPUModelRunner"
V2 = "vllm.v1.worker.gpu.model_runner:GPUModelRunner"
SCHEDULER = "vllm.v1.core.sched.scheduler:Scheduler"
ENGINE = "vllm.v1.engine.llm_engine:LLMEngine"
MOE = "vllm.model_executor.layers.fused_moe"
EXPERTS = f"{MOE}.unquantized_fused_moe_method:UnquantizedFusedMoEMethod"

SIGNATURES = {
    f"{V1}._update_states": ["self", "scheduler_output"],
    f"{V1}._prepare_inputs": ["self", "scheduler_output", "num_scheduled_tokens"],
    f"{V1}._get_prompt_logprobs_dict": ["self", "hidden_states", "num_scheduled_tokens"],
    f"{V1}._dummy_run": ["self", "num_tokens"],
    f"{V1}.sample_tokens": ["self"],
    f"{V1}.get_model": ["self"],
    f"{V1}.profile_run": ["self"],
    f"{V2}.finish_requests": ["self", "scheduler_output"],
    f"{V2}.add_requests": ["self", "scheduler_output"],
    f"{V2}.prepare_inputs": ["self", "scheduler_output"],
    f"{V2}.execute_model": ["self", "scheduler_output", "intermediate_tensors", "dummy_run"],
    f"{V2}.sample_tokens": ["self"],
    f"{V2}._dummy_run": ["self", "num_tokens"],
    f"{V2}.get_model": ["self"],
    f"{SCHEDULER}.schedule": ["self"],
    f"{SCHEDULER}.add_request": ["self", "request"],
    f"{SCHEDULER}.update_from_output": ["self", "scheduler_output"],
    f"{SCHEDULER}._preempt_request": ["self", "request", "timestamp"],
    f"{SCHEDULER}._is_blocked_waiting_status": ["status"],
    f"{ENGINE}.from_engine_args": ["cls", "engine_args", "usage_context"],
    f"{ENGINE}.add_request": ["self", "request_id", "prompt", "params"],
    f"{ENGINE}.add_lora": ["self", "lora_request"],
    f"{ENGINE}.abort_request": ["self", "request_ids"],
    f"{ENGINE}.step": ["self"],
    f"{ENGINE}.has_unfinished_requests": ["self"],
    f"{ENGINE}.collective_rpc": ["self", "method", "timeout", "args"],
    f"{ENGINE}.get_tokenizer": ["self"],
    "vllm.v1.executor.abstract:Executor.register_failure_callback": ["self", "callback"],
    "vllm.v1.core.kv_cache_manager:KVCacheManager.get_computed_blocks": ["self", "request"],
    "vllm.v1.core.kv_cache_coordinator:KVCacheCoordinator.find_longest_cache_hit": [
        "self",
        "block_hashes",
        "max_cache_hit_length",
    ],
    "vllm.v1.core.sched.scheduler:Scheduler.get_request_counts": ["self"],
    "vllm.v1.engine.logprobs:LogprobsProcessor.from_new_request": ["cls", "tokenizer", "request"],
    "vllm.v1.engine.detokenizer:FastIncrementalDetokenizer": ["tokenizer", "request"],
    "vllm.model_executor.model_loader:register_model_loader": ["load_format"],
    "vllm.model_executor.model_loader.default_loader:DefaultModelLoader": ["load_config"],
    "vllm.model_executor.model_loader.default_loader:DefaultModelLoader.get_all_weights": [
        "self",
        "model_config",
        "model",
    ],
    "vllm.v1.worker.gpu_worker:Worker.load_model": ["self"],
    "vllm.envs:disable_envs_cache": [],
    "vllm.v1.worker.cpu_worker:CPUWorker.determine_available_memory": ["self"],
    "vllm.config.model:ModelConfig.get_vocab_size": ["self"],
    "vllm.config.model:ModelConfig.get_hidden_size": ["self"],
    "vllm.config.model:ModelConfig.get_layers_start_end_indices": ["self", "parallel_config"],
    "vllm.distributed.communication_op:tensor_model_parallel_all_gather": ["input_", "dim"],
    "vllm.distributed.parallel_state:get_tensor_model_parallel_rank": [],
    "vllm.distributed.parallel_state:get_tensor_model_parallel_world_size": [],
    "vllm.platforms.interface:Platform.has_device_capability": ["cls", "capability"],
    f"{EXPERTS}.process_weights_after_loading": ["self", "layer"],
    f"{EXPERTS}.apply": ["self", "layer", "x", "topk_weights", "topk_ids"],
    "vllm.model_executor.custom_op:CustomOp.register_oot": ["cls", "_decorated_op_cls"],
    "vllm.model_executor.layers.rotary_embedding.base:RotaryEmbedding.forward_native": [
        *("self", "positions", "query", "key"),
    ],
}
"""The parameters with which each function begins."""

EXACT = (
    *(f"{V1}._update_states", f"{V1}._prepare_inputs", f"{V1}._get_prompt_logprobs_dict"),
    *(f"{V2}.finish_requests", f"{V2}.add_requests"),
    "vllm.v1.core.kv_cache_coordinator:KVCacheCoordinator.find_longest_cache_hit",
    "vllm.v1.engine.logprobs:LogprobsProcessor.from_new_request",
    "vllm.v1.engine.detokenizer:FastIncrementalDetokenizer",
)
"""Functions whose wrapper passes on these parameters and no others."""

MEMBERS = {
    "vllm.v1.core.sched.output:SchedulerOutput": [
        *("finished_req_ids", "scheduled_new_reqs", "scheduled_cached_reqs", "preempted_req_ids"),
    ],
    "vllm.v1.core.sched.output:NewRequestData": [
        *("req_id", "prompt_token_ids", "sampling_params", "block_ids", "num_computed_tokens"),
    ],
    "vllm.v1.core.sched.output:CachedRequestData": [
        *("req_ids", "resumed_req_ids", "new_block_ids", "num_computed_tokens"),
    ],
    "vllm.v1.kv_cache_interface:KVCacheConfig": ["num_blocks", "kv_cache_groups"],
    "vllm.v1.kv_cache_interface:KVCacheGroupSpec": ["layer_names", "kv_cache_spec"],
    "vllm.v1.worker.gpu.input_batch:InputBatch": ["req_ids", "num_scheduled_tokens", "num_computed_tokens_np"],
    "vllm.v1.worker.gpu_input_batch:InputBatch": ["req_ids", "num_reqs"],
    "vllm.v1.worker.gpu.model_runner:ExecuteModelState": ["hidden_states"],
    "vllm.v1.core.kv_cache_manager:KVCacheManager": ["usage"],
    "vllm.config.scheduler:SchedulerConfig": [
        *("max_num_batched_tokens", "async_scheduling", "long_prefill_token_threshold", "max_num_seqs"),
    ],
    "vllm.config.compilation:CompilationConfig": ["max_cudagraph_capture_size", "static_forward_context"],
    "vllm.config.parallel:ParallelConfig": ["tensor_parallel_size", "pipeline_parallel_size"],
    "vllm.config.vllm:VllmConfig": [
        *("additional_config", "model_config", "parallel_config", "scheduler_config", "use_v2_model_runner"),
    ],
    "vllm.config.model:ModelConfig": ["dtype", "max_model_len", "architectures", "hf_text_config"],
    "vllm.config.load:LoadConfig": ["load_format"],
    "vllm.engine.arg_utils:EngineArgs": [
        *("model", "config_format", "load_format", "tokenizer_mode", "dtype", "worker_cls", "max_model_len"),
        *("distributed_executor_backend", "tensor_parallel_size", "pipeline_parallel_size", "max_num_seqs"),
        *("block_size", "max_num_batched_tokens", "scheduling_policy", "enable_prefix_caching", "enforce_eager"),
        *("kv_cache_memory_bytes", "async_scheduling", "additional_config", "disable_log_stats", "seed"),
        *("language_model_only", "enable_lora", "max_loras", "max_cpu_loras", "max_lora_rank"),
        *("lora_target_modules", "attention_backend", "hf_overrides"),
    ],
    "vllm.usage.usage_lib:UsageContext": ["OPENAI_API_SERVER"],
    "vllm.lora.request:LoRARequest": ["lora_name", "lora_int_id", "lora_path"],
    "vllm.sampling_params:SamplingParams": [
        *("max_tokens", "n", "temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty"),
        *("repetition_penalty", "seed", "stop", "ignore_eos", "logprobs", "output_kind", "extra_args", "skip_clone"),
        *("detokenize", "skip_reading_prefix_cache"),
    ],
    "vllm.sampling_params:RequestOutputKind": ["DELTA"],
    "vllm.outputs:CompletionOutput": ["token_ids", "logprobs", "finish_reason", "stop_reason", "text"],
    "vllm.model_executor.layers.activation": [
        *("SiluAndMul", "GeluAndMul", "GELU", "GELUTanh", "NewGELU", "FastGELU", "QuickGELU", "XIELU"),
        "ReLUSquaredActivation",
    ],
    f"{MOE}.activation:MoEActivation": ["SILU", "GELU", "GELU_TANH"],
    f"{MOE}.runner.moe_runner:MoERunner": ["shared_experts"],
    f"{MOE}.routed_experts:RoutedExperts": ["expert_map"],
    "vllm.model_executor.models.qwen3_5": ["Qwen3_5ForCausalLM", "Qwen3_5MoeForCausalLM"],
    "vllm.platforms.interface:Platform": [
        *("is_cpu", "is_cuda", "has_device_capability", "get_device_name", "get_device_capability"),
    ],
}
"""Fields, methods and properties of classes, and names of modules."""

ASSIGNED = {
    "vllm.v1.worker.gpu_input_batch:InputBatch.__init__": ["self.num_computed_tokens_cpu =", "self.generators:"],
    f"{V1}.__init__": [
        *(
            "self.input_batch =",
            "self.execute_model_state:",
            "self.discard_request_mask =",
            "self.compilation_config =",
        ),
    ],
    f"{V1}.initialize_kv_cache": ["self.kv_cache_config ="],
    f"{V2}.__init__": ["self.execute_model_state:"],
    f"{V1}.load_model": ["self.model_memory_usage ="],
    f"{V2}.load_model": ["self.model_memory_usage ="],
    "vllm.v1.worker.gpu_worker:Worker.determine_available_memory": ["self.model_runner.model_memory_usage"],
    f"{SCHEDULER}.__init__": [
        *("self.kv_cache_manager =", "self.max_num_running_reqs =", "self.scheduler_config ="),
        *("self.max_num_scheduled_tokens =", "self.requests:", "self.running:"),
    ],
    f"{ENGINE}.__init__": [
        *("self.vllm_config =", "self.model_config =", "self.engine_core =", "self.model_executor ="),
        "self.output_processor =",
    ],
    "vllm.v1.engine.output_processor:OutputProcessor.__init__": ["self.request_states:"],
    "vllm.v1.engine.output_processor:RequestState.__init__": ["self.detokenizer ="],
    "vllm.v1.engine.detokenizer:BaseIncrementalDetokenizer.__init__": ["self.output_text ="],
    "vllm.v1.engine.core_client:InprocClient.__init__": ["self.engine_core ="],
    "vllm.v1.engine.core:EngineCore.__init__": ["self.scheduler:"],
    "vllm.v1.core.kv_cache_manager:KVCacheManager.__init__": ["self.coordinator ="],
    "vllm.outputs:RequestOutput.__init__": [
        *("self.request_id =", "self.outputs =", "self.finished =", "self.num_cached_tokens ="),
    ],
    "vllm.v1.request:Request.__init__": ["self.sampling_params ="],
    "vllm.v1.engine.detokenizer:FastIncrementalDetokenizer.__init__": [
        *("self.stream =", "self.tokenizer:", "self.skip_special_tokens ="),
    ],
    "vllm.v1.worker.lora_model_runner_mixin:LoRAModelRunnerMixin.load_lora_model": ["does not support LoRA"],
    "vllm.model_executor.layers.activation:GeluAndMul.__init__": ["self.approximate ="],
    "vllm.model_executor.layers.linear:RowParallelLinear.__init__": ["self.input_size_per_partition ="],
    f"{EXPERTS}.__init__": ["self.unquantized_backend, self.experts_cls"],
    f"{EXPERTS}.create_weights": ["'w13_weight'", "'w13_bias'", "'w2_weight'", "'w2_bias'"],
    f"{MOE}.runner.shared_experts:SharedExperts.__init__": ["self._layer ="],
    f"{MOE}.runner.moe_runner:MoERunner.__init__": ["self.routed_experts =", "self.router ="],
    f"{MOE}.router.cpu_router:CPURouter.__init__": [
        *("self.use_grouped_topk =", "self.num_expert_group =", "self.topk_group =", "self.scoring_func ="),
        *("self.custom_routing_function =", "self.e_score_correction_bias ="),
    ],
    "vllm.model_executor.custom_op:CustomOp.__init__": ["self._forward_method ="],
    "vllm.model_executor.layers.mla:MultiHeadLatentAttentionWrapper.__init__": ["self.rotary_emb ="],
    "vllm.model_executor.models.transformers.fusers.moe:SharedExpertMLP.__init__": ["self.shared_experts ="],
    f"{MOE}.routed_experts:RoutedExperts.__init__": [
        *("self.quant_method =", "self.moe_config =", "self.activation =", "self.top_k =", "self.swiglu_limit ="),
        "self.apply_router_weight_on_input =",
    ],
}
"""Attributes that a method sets, and words of an error."""

CALLS = {
    f"{V1}.execute_model": ["self._update_states(", "self._prepare_inputs(", "self._model_forward("],
    f"{V2}.execute_model": [
        "self.finish_requests(scheduler_output)",
        "self.add_requests(scheduler_output)",
        "self.prepare_inputs(",
        "self.cudagraph_manager.run_fullgraph(",
        "self.model(**model_inputs)",
        "self.execute_model_state = ExecuteModelState(",
    ],
    f"{V2}._dummy_run": ["self.execute_model(", "dummy_run=True"],
    f"{MOE}.routed_experts:RoutedExperts.forward_modular": [
        *("self.quant_method.apply(", "layer=self", "x=x", "topk_weights=topk_weights", "topk_ids=topk_ids"),
    ],
    # The ids of requests are assigned in a method of its own, which the patch replaces.
    f"{ENGINE}.add_request": [
        *("self.input_processor.assign_request_id(request)", "self.output_processor.add_request("),
    ],
    "vllm.v1.engine.input_processor:InputProcessor.assign_request_id": [
        *("request.external_req_id = request.request_id", "request.request_id ="),
    ],
    # The batch is laid out before it is padded, so that padding tokens have no slot.
    f"{V2}.prepare_inputs": ["num_computed_tokens_np = self.req_states.num_computed_tokens_np[idx_mapping_np]"],
    # Positional arguments: the patch passes on what it does not know.
    "vllm.v1.core.kv_cache_manager:KVCacheManager.get_computed_blocks": [
        "self.coordinator.find_longest_cache_hit(request.block_hashes, max_cache_hit_length)"
    ],
}
"""Calls that a method makes, in this order."""

ENVIRONMENT = (
    *("VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_USE_V2_MODEL_RUNNER", "VLLM_BATCH_INVARIANT", "VLLM_LOGGING_LEVEL"),
    *("VLLM_CPU_OMP_THREADS_BIND", "VLLM_NO_USAGE_STATS"),
)


def releases() -> list[object]:
    """Return the sources to check, as parameters of a test."""
    named = {"installed": VllmSource.installed()}
    if folder := os.environ.get(WHEEL):
        named["wheel"] = VllmSource(Path(folder))
    return [pytest.param(source, id=name) for name, source in named.items() if source is not None]


def changes(source: VllmSource) -> list[str]:
    """Return a sentence for each internal of a release that is not as the patch needs it."""
    checks = [
        *((_signature, path, wanted) for path, wanted in SIGNATURES.items()),
        *((_members, path, wanted) for path, wanted in MEMBERS.items()),
        *((_assigned, path, wanted) for path, wanted in ASSIGNED.items()),
        *((_calls, path, wanted) for path, wanted in CALLS.items()),
        (_assigned, "vllm.envs", [f"'{name}'" for name in ENVIRONMENT]),
    ]
    problems = []
    for check, path, wanted in checks:
        try:
            problem = check(source, path, wanted)
        except MissingName as error:
            problem = str(error)
        problems += [problem] if problem else []
    return problems


def _signature(source: VllmSource, path: str, wanted: list[str]) -> str | None:
    parameters = source.parameters(path)
    if path in EXACT and parameters != wanted:
        return f"{path} takes {parameters}, not exactly {wanted}"
    return f"{path} takes {parameters}, not {wanted}" if parameters[: len(wanted)] != wanted else None


def _members(source: VllmSource, path: str, wanted: list[str]) -> str | None:
    missing = sorted(set(wanted) - source.members(path))
    return f"{path} lacks {', '.join(missing)}" if missing else None


def _assigned(source: VllmSource, path: str, wanted: list[str]) -> str | None:
    text = source.source(path)
    missing = [name for name in wanted if name not in text]
    return f"{path} lacks {', '.join(missing)}" if missing else None


def _calls(source: VllmSource, path: str, wanted: list[str]) -> str | None:
    text = source.source(path)
    positions = [text.find(call) for call in wanted]
    return f"{path} does not make the calls {wanted}" if -1 in positions or positions != sorted(positions) else None


@pytest.mark.parametrize("source", releases())
def test_the_release_has_every_internal_that_the_patch_touches(source: VllmSource) -> None:
    assert changes(source) == []


def test_a_changed_internal_is_named(tmp_path: Path) -> None:
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "sampling_params.py").write_text("class RequestOutputKind:\n    FINAL = 2\n")
    problems = changes(VllmSource(tmp_path))
    assert "vllm.sampling_params:RequestOutputKind lacks DELTA" in problems
    assert "there is no module vllm.v1.request" in problems
    assert len(problems) == len(SIGNATURES) + len(MEMBERS) + len(ASSIGNED) + len(CALLS) + 1
