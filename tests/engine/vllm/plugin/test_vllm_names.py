"""The internals of vLLM that the plug-in wraps. A release that changed one of them fails here, by its name."""

from __future__ import annotations

import pytest

from tests.engine.vllm.vllm_source import VllmSource

SCHEDULER = "vllm.v1.core.sched.scheduler:Scheduler"
CORE = "vllm.v1.engine.core:EngineCore"
OPENAI = "vllm.entrypoints.openai"

SIGNATURES = {
    "vllm.engine.arg_utils:EngineArgs.create_engine_config": ["self"],
    "vllm.v1.engine.input_processor:InputProcessor": ["vllm_config"],
    "vllm.v1.engine.input_processor:InputProcessor.process_inputs": ["self", "request_id", "prompt", "params"],
    f"{CORE}._initialize_kv_caches": ["self", "vllm_config"],
    f"{CORE}.get_supported_tasks": ["self"],
    f"{CORE}.preprocess_add_request": ["self", "request"],
    f"{CORE}.reset_prefix_cache": ["self"],
    SCHEDULER: ["vllm_config"],
    f"{SCHEDULER}._enqueue_waiting_request": ["self", "request"],
    f"{SCHEDULER}._free_request": ["self", "request"],
    f"{SCHEDULER}.finish_requests": ["self", "request_ids", "finished_status"],
    f"{SCHEDULER}.get_request_counts": ["self"],
    f"{SCHEDULER}.make_stats": ["self"],
    f"{SCHEDULER}.update_from_output": ["self", "scheduler_output", "model_runner_output"],
    "vllm.v1.engine.async_llm:AsyncLLM.generate": ["self", "prompt", "sampling_params", "request_id"],
    f"{SCHEDULER}.add_request": ["self", "request"],
    "vllm.v1.metrics.loggers:PrometheusStatLogger": ["vllm_config"],
    "vllm.v1.metrics.loggers:PrometheusStatLogger.record": ["self", "scheduler_stats", "iteration_stats"],
    f"{OPENAI}.completion.protocol:CompletionRequest.to_sampling_params": ["self"],
    f"{OPENAI}.completion.protocol:CompletionRequest.to_beam_search_params": ["self"],
    f"{OPENAI}.chat_completion.protocol:ChatCompletionRequest.to_sampling_params": ["self"],
    f"{OPENAI}.chat_completion.protocol:ChatCompletionRequest.to_beam_search_params": ["self"],
    f"{OPENAI}.responses.protocol:ResponsesRequest.to_sampling_params": ["self"],
}
"""The parameters with which each function begins."""

MEMBERS = {
    "vllm.v1.engine:EngineCoreRequest": [
        *("request_id", "prompt_token_ids", "prompt_embeds", "sampling_params", "cache_salt", "resumable", "priority"),
    ],
    "vllm.v1.engine:EngineCoreOutput": [
        *("request_id", "new_token_ids", "new_logprobs", "finished"),
        *("finish_reason", "stop_reason", "events", "trace_headers"),
    ],
    "vllm.v1.engine:EngineCoreOutputs": ["outputs"],
    "vllm.v1.request:Request": ["get_finished_reason", "take_events"],
    "vllm.v1.request:RequestStatus": ["FINISHED_ERROR"],
    "vllm.v1.outputs:ModelRunnerOutput": ["num_nans_in_logits"],
    "vllm.v1.outputs:AsyncModelRunnerOutput": ["get_output"],
    "vllm.v1.outputs:LogprobsLists": ["logprob_token_ids", "logprobs"],
    "vllm.v1.metrics.stats:SchedulerStats": ["num_kv_fetch_reqs_by_stage"],
    "vllm.exceptions": ["VLLMValidationError"],
    "vllm.config.parallel:ParallelConfig": [
        *("worker_cls", "enable_dbo", "ubatch_size", "prefill_context_parallel_size"),
    ],
    "vllm.config.cache:CacheConfig": ["kv_sharing_fast_prefill"],
    "vllm.config.vllm:VllmConfig": ["speculative_config", "additional_config"],
    "vllm.config.model:ModelConfig": ["hf_text_config", "architectures"],
}
"""Fields and names of classes and modules."""

CALLS = {
    # The queues and the register of requests, which the admission by slots relies on.
    f"{SCHEDULER}.add_request": [
        "self._enqueue_waiting_request(request)",
        "self.requests[request.request_id] = request",
    ],
    f"{SCHEDULER}.finish_requests": ["self.requests.get(req_id)", "self._free_request(request"],
    f"{SCHEDULER}._free_request": ["self.finished_req_ids.add(request_id)"],
    # A request that has ended gets no token of the step.
    f"{SCHEDULER}.update_from_output": [
        "model_runner_output.num_nans_in_logits",
        "self.requests.get(req_id)",
        "request is None or request.is_finished()",
        "EngineCoreOutputs(outputs=outs)",
    ],
    # The neurons are loaded, and the scheduler made, before the core can step.
    f"{CORE}.__init__": [
        "load_general_plugins()",
        "self._initialize_kv_caches(vllm_config)",
        "Scheduler(",
        "self.step_fn",
    ],
}
"""Calls that a method makes, in this order."""

PLUGIN_LOADS = ("vllm.v1.engine.core:EngineCore.__init__", "vllm.engine.arg_utils:EngineArgs.__post_init__")


@pytest.fixture(scope="module")
def source() -> VllmSource:
    installed = VllmSource.installed()
    if installed is None:
        pytest.skip("vLLM is not installed")
    return installed


@pytest.mark.parametrize("path", SIGNATURES)
def test_functions_begin_with_their_parameters(path: str, source: VllmSource) -> None:
    expected = SIGNATURES[path]
    assert source.parameters(path)[: len(expected)] == expected


@pytest.mark.parametrize("path", MEMBERS)
def test_classes_have_their_members(path: str, source: VllmSource) -> None:
    assert set(MEMBERS[path]) <= source.members(path)


@pytest.mark.parametrize("path", CALLS)
def test_methods_call_each_other_in_order(path: str, source: VllmSource) -> None:
    text, position = source.source(path), 0
    for call in CALLS[path]:
        position = text.find(call, position)
        assert position >= 0, call


@pytest.mark.parametrize("path", PLUGIN_LOADS)
def test_plug_ins_are_loaded_in_the_front_end_and_in_the_core(path: str, source: VllmSource) -> None:
    assert "load_general_plugins()" in source.source(path)
