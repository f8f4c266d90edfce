"""The internals of vLLM that the patch relies on. A release that changed one of them fails here.

Signatures list the parameters that the patch uses; orders are those of calls in the source of a method.
"""

from __future__ import annotations

import dataclasses
import inspect
from importlib import import_module
from typing import Any

import pytest

pytestmark = pytest.mark.engine

V1 = "vllm.v1.worker.gpu_model_runner:GPUModelRunner"
V2 = "vllm.v1.worker.gpu.model_runner:GPUModelRunner"


def find(path: str) -> Any:
    module, _, names = path.partition(":")
    value: Any = import_module(module)
    for name in names.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        (f"{V1}._update_states", ["self", "scheduler_output"]),
        (f"{V1}._prepare_inputs", ["self", "scheduler_output", "num_scheduled_tokens"]),
        (f"{V1}._get_prompt_logprobs_dict", ["self", "hidden_states", "num_scheduled_tokens"]),
        (f"{V1}._dummy_run", ["self", "num_tokens"]),
        (f"{V1}.sample_tokens", ["self"]),
        (f"{V2}.finish_requests", ["self", "scheduler_output"]),
        (f"{V2}.add_requests", ["self", "scheduler_output"]),
        (f"{V2}.prepare_inputs", ["self", "scheduler_output"]),
        (f"{V2}.execute_model", ["self", "scheduler_output", "intermediate_tensors", "dummy_run"]),
        (f"{V2}._dummy_run", ["self", "num_tokens"]),
        ("vllm.v1.core.kv_cache_manager:KVCacheManager.get_computed_blocks", ["self", "request"]),
        (
            "vllm.v1.core.kv_cache_coordinator:KVCacheCoordinator.find_longest_cache_hit",
            ["self", "block_hashes", "max_cache_hit_length"],
        ),
        ("vllm.v1.core.sched.scheduler:Scheduler.get_request_counts", ["self"]),
        ("vllm.v1.engine.logprobs:LogprobsProcessor.from_new_request", ["tokenizer", "request"]),
        ("vllm.v1.worker.gpu_worker:Worker.load_model", ["self"]),
        ("vllm.v1.worker.cpu_worker:CPUWorker.load_model", ["self"]),
    ],
)
def test_a_wrapped_method_begins_with_these_parameters(method: str, parameters: list[str]) -> None:
    assert list(inspect.signature(find(method)).parameters)[: len(parameters)] == parameters


@pytest.mark.parametrize(
    ("path", "names"),
    [
        (
            "vllm.v1.core.sched.output:SchedulerOutput",
            ["finished_req_ids", "scheduled_new_reqs", "preempted_req_ids"],
        ),
        ("vllm.v1.core.sched.output:NewRequestData", ["req_id", "prompt_token_ids", "sampling_params"]),
        (
            "vllm.v1.worker.gpu.input_batch:InputBatch",
            ["req_ids", "num_scheduled_tokens", "num_computed_tokens_np"],
        ),
        ("vllm.config:SchedulerConfig", ["max_num_batched_tokens", "async_scheduling"]),
        ("vllm.config:CompilationConfig", ["max_cudagraph_capture_size"]),
        ("vllm.config:VllmConfig", ["additional_config"]),
    ],
)
def test_a_record_has_these_fields(path: str, names: list[str]) -> None:
    assert set(names) <= {field.name for field in dataclasses.fields(find(path))}


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("vllm.v1.worker.gpu.model_runner:ExecuteModelState", ["hidden_states"]),
        ("vllm.config:VllmConfig", ["use_v2_model_runner"]),
        ("vllm.v1.core.kv_cache_manager:KVCacheManager", ["usage"]),
        ("vllm.v1.worker.gpu_input_batch:InputBatch", ["req_ids", "num_reqs"]),
    ],
)
def test_a_class_has_these_attributes(path: str, names: list[str]) -> None:
    assert [name for name in names if not hasattr(find(path), name)] == []


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("vllm.v1.worker.gpu_input_batch:InputBatch", ["self.num_computed_tokens_cpu =", "self.generators:"]),
        (V1, ["self.input_batch =", "self.execute_model_state:", "self.discard_request_mask ="]),
        (V2, ["self.execute_model_state:"]),
        ("vllm.v1.core.sched.scheduler:Scheduler", ["self.kv_cache_manager =", "self.max_num_running_reqs ="]),
        ("vllm.model_executor.layers.activation:GeluAndMul", ["self.approximate ="]),
    ],
)
def test_a_constructor_sets_these(path: str, names: list[str]) -> None:
    source = inspect.getsource(find(path).__init__)
    assert [name for name in names if name not in source] == []


@pytest.mark.parametrize(
    ("method", "calls"),
    [
        (f"{V1}.execute_model", ["self._update_states(", "self._prepare_inputs(", "self._model_forward("]),
        (
            f"{V2}.execute_model",
            [
                "self.finish_requests(scheduler_output)",
                "self.add_requests(scheduler_output)",
                "self.prepare_inputs(",
                "self.cudagraph_manager.run_fullgraph(",
                "self.model(**model_inputs)",
                "self.execute_model_state = ExecuteModelState(",
            ],
        ),
        (f"{V2}._dummy_run", ["self.execute_model(", "dummy_run=True"]),
    ],
)
def test_a_method_makes_these_calls_in_this_order(method: str, calls: list[str]) -> None:
    source = inspect.getsource(find(method))
    positions = [source.find(call) for call in calls]
    assert -1 not in positions
    assert positions == sorted(positions)


def test_the_batch_of_the_v2_runner_is_laid_out_before_it_is_padded() -> None:
    """Its `num_scheduled_tokens` exclude padding, so that padding tokens have no slot."""
    source = inspect.getsource(find(f"{V2}.prepare_inputs"))
    assert "num_tokens_after_padding" in source
    assert "num_computed_tokens_np = self.req_states.num_computed_tokens_np[idx_mapping_np]" in source
