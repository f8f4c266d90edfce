"""Wraps vLLM's classes in this process so that they steer; each wrapper does nothing for an engine that is not steered.

Every process of vLLM loads plug-ins. Those that only run workers or read a model's class need no wrapper: the worker
class is named in the configuration.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import wraps
from typing import Any, NoReturn

from ampsweep.errors import InvalidRequest
from engine.vllm.plugin import metrics, scheduler
from engine.vllm.plugin.configuration import configure, describe, is_steered, read_neurons
from engine.vllm.requests.request_extras import KEY

_PROCESSES = ("vllm.engine.arg_utils", "vllm.v1.engine.core")
"""Modules without which a process is neither a front end nor an engine's core."""
log = logging.getLogger("vllm.ampsweep")
"""Its messages appear among those of vLLM, which shows only what is below its own name."""
_WRAPPED = "ampsweep_wrapped"
_early_checks: list[Callable[[Any], None]] = []
"""What checks requests of the OpenAI endpoints in this process; at most one."""


def install() -> None:
    """Wrap vLLM's classes; calling it again changes nothing."""
    if not any(module in sys.modules for module in _PROCESSES):
        return
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.core.sched.scheduler import Scheduler
    from vllm.v1.engine.core import EngineCore
    from vllm.v1.engine.input_processor import InputProcessor
    from vllm.v1.metrics.loggers import PrometheusStatLogger

    _wrap(EngineArgs, "create_engine_config", _configured)
    _wrap(InputProcessor, "__init__", _with_front_end)
    _wrap(InputProcessor, "process_inputs", _steered)
    _wrap(EngineCore, "_initialize_kv_caches", _with_neurons)
    _wrap(EngineCore, "get_supported_tasks", _tested)
    _wrap(Scheduler, "__init__", _admitting)
    _wrap(PrometheusStatLogger, "__init__", _with_metrics)
    _wrap(PrometheusStatLogger, "record", _recording)


def _wrap(owner: type, name: str, wrapper: Callable[[Any], Any]) -> None:
    original = getattr(owner, name)
    if not hasattr(original, _WRAPPED):
        wrapped = wraps(original)(wrapper(original))
        setattr(wrapped, _WRAPPED, True)
        setattr(owner, name, wrapped)


def _configured(create_engine_config: Any) -> Any:
    def create(self: Any, *args: Any, **kwargs: Any) -> Any:
        vllm_config = create_engine_config(self, *args, **kwargs)
        configure(vllm_config)
        return vllm_config

    return create


def _with_front_end(initialize: Any) -> Any:
    def init(self: Any, vllm_config: Any, *args: Any, **kwargs: Any) -> None:
        initialize(self, vllm_config, *args, **kwargs)
        self.ampsweep = None
        if is_steered(vllm_config):
            from vllm.v1.engine.async_llm import AsyncLLM

            from engine.vllm.plugin.front_end import FrontEnd

            self.ampsweep = FrontEnd.open(vllm_config)
            _check_requests_early(self.ampsweep.check)
            _wrap(AsyncLLM, "generate", _raising_overflow)

    return init


def _steered(process_inputs: Any) -> Any:
    def process(self: Any, *args: Any, **kwargs: Any) -> Any:
        request = process_inputs(self, *args, **kwargs)
        if self.ampsweep is not None:
            _refusing(self.ampsweep.steer, request)
        return request

    return process


def _raising_overflow(generate: Any) -> Any:
    def start(self: Any, prompt: Any, sampling_params: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = generate(self, prompt, sampling_params, *args, **kwargs)
        extra_args = getattr(sampling_params, "extra_args", None)
        return _checked_outputs(outputs) if extra_args and KEY in extra_args else outputs

    return start


async def _checked_outputs(outputs: AsyncGenerator[Any]) -> AsyncGenerator[Any]:
    """Pass on the outputs of a steered request; raise a refusal for one that ended because of NaN."""
    async with aclosing(outputs):
        async for output in outputs:
            for answer in output.outputs:
                if answer.finish_reason == "error" and answer.stop_reason:
                    _raise_refusal(InvalidRequest(str(answer.stop_reason), param=f"vllm_xargs.{KEY}"))
            yield output


def _check_requests_early(check: Callable[[Any], None]) -> None:
    """Check requests of the OpenAI endpoints before their responses begin: a stream that has begun cannot be a 400.

    The checks of a process are those of its last engine; `_steered` checks every request by its own.
    """
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest
    from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

    _early_checks[:] = [check]
    for protocol in (CompletionRequest, ChatCompletionRequest, ResponsesRequest):
        _wrap(protocol, "to_sampling_params", _checked)
    for protocol in (CompletionRequest, ChatCompletionRequest):
        _wrap(protocol, "to_beam_search_params", _without_steering)


def _checked(to_sampling_params: Any) -> Any:
    def convert(self: Any, *args: Any, **kwargs: Any) -> Any:
        for check in _early_checks:
            _refusing(check, self.vllm_xargs)
        return to_sampling_params(self, *args, **kwargs)

    return convert


def _without_steering(to_beam_search_params: Any) -> Any:
    def convert(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.vllm_xargs and KEY in self.vllm_xargs:
            message = f"beam search cannot be steered; leave use_beam_search or vllm_xargs.{KEY} out"
            _raise_refusal(InvalidRequest(message, param="use_beam_search"))
        return to_beam_search_params(self, *args, **kwargs)

    return convert


def _with_neurons(initialize_kv_caches: Any) -> Any:
    def initialize(self: Any, vllm_config: Any) -> Any:
        kv_cache_config = initialize_kv_caches(self, vllm_config)
        if is_steered(vllm_config):
            neurons = read_neurons(describe(vllm_config))
            self.model_executor.collective_rpc("steering_add_neurons", args=(neurons,))
            self.ampsweep_neurons = f"neuron set {neurons.id} with the languages {', '.join(neurons.languages)}"
        return kv_cache_config

    return initialize


def _tested(get_supported_tasks: Any) -> Any:
    """Test steering when the first front end asks what the engine can do, which it does before its first request."""

    def get(self: Any) -> Any:
        if is_steered(self.vllm_config) and not getattr(self, "ampsweep_tested", False):
            from engine.vllm.plugin.self_test import test_core

            test_core(self)
            self.scheduler.ampsweep.reset_counts()
            self.ampsweep_tested = True
            log.info("Ampsweep can steer requests, its self-test passed: %s", self.ampsweep_neurons)
        return get_supported_tasks(self)

    return get


def _admitting(initialize: Any) -> Any:
    def init(self: Any, vllm_config: Any, *args: Any, **kwargs: Any) -> None:
        initialize(self, vllm_config, *args, **kwargs)
        if is_steered(vllm_config):
            scheduler.attach(self, vllm_config)

    return init


def _with_metrics(initialize: Any) -> Any:
    def init(self: Any, vllm_config: Any, *args: Any, **kwargs: Any) -> None:
        initialize(self, vllm_config, *args, **kwargs)
        self.ampsweep = None
        if is_steered(vllm_config):
            labels, gauge, counter = self.per_engine_labelvalues, self._gauge_cls, self._counter_cls
            self.ampsweep = metrics.SlotMetrics(labels, gauge=gauge, counter=counter)

    return init


def _recording(record: Any) -> Any:
    def recorded(self: Any, scheduler_stats: Any, *args: Any, engine_idx: int = 0, **kwargs: Any) -> None:
        record(self, scheduler_stats, *args, engine_idx=engine_idx, **kwargs)
        if self.ampsweep is not None and scheduler_stats is not None:
            self.ampsweep.record(scheduler_stats, engine_idx)

    return recorded


def _refusing(call: Callable[[Any], None], argument: Any) -> None:
    """Call a function and turn its refusals into vLLM's, which its server answers with a 400 that names the field."""
    try:
        call(argument)
    except InvalidRequest as error:
        _raise_refusal(error)


def _raise_refusal(error: InvalidRequest) -> NoReturn:
    from vllm.exceptions import VLLMValidationError

    raise VLLMValidationError(error.message, parameter=error.param) from error
