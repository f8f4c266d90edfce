"""The adapter to vLLM's V1 model runner: some of its methods, wrapped, tell the steering what it has to know.

`_update_states` runs once for every scheduler output, also one without tokens: requests end and begin there.
`_prepare_inputs` runs before every forward pass: there the batch's order and positions are settled.
`_get_prompt_logprobs_dict` gets the last hidden states after every forward pass: scoring reads them there.
`_dummy_run` is every other forward pass: profiling, warm-up, the capture of CUDA graphs.
`sample_tokens` draws for every request of the batch, also where a prompt is not finished and the token is thrown away;
that draw must not come out of the request's own generator, or a seed would give other answers to a prompt in pieces.
vLLM winds the generator back, which on a CPU kills the engine: a generator there has no offset.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.worker.gpu_model_runner import GPUModelRunner

from ampsweep.errors import SteeringNotInstalled
from engine.vllm.worker.steering import WorkerSteering


def attach(runner: object, steering: WorkerSteering) -> None:
    """Wrap a runner's methods; raises SteeringNotInstalled for one that is not V1's."""
    if not isinstance(runner, GPUModelRunner):
        raise SteeringNotInstalled(f"{type(runner).__name__} is not vLLM's V1 model runner")
    update_states = runner._update_states  # noqa: SLF001
    prepare_inputs = runner._prepare_inputs  # noqa: SLF001
    prompt_logprobs = runner._get_prompt_logprobs_dict  # noqa: SLF001
    dummy_run = runner._dummy_run  # noqa: SLF001
    sample_tokens = runner.sample_tokens

    def steered_update_states(scheduler_output: SchedulerOutput) -> Any:
        for request_id in scheduler_output.finished_req_ids:
            steering.finish(request_id)
        for request in scheduler_output.scheduled_new_reqs:
            params = request.sampling_params
            extra_args = None if params is None else params.extra_args
            steering.start(request.req_id, extra_args, request.prompt_token_ids or ())
        return update_states(scheduler_output)

    def steered_prepare_inputs(scheduler_output: SchedulerOutput, num_scheduled_tokens: np.ndarray) -> Any:
        batch = runner.input_batch
        computed = batch.num_computed_tokens_cpu[: batch.num_reqs]
        steering.begin_step(batch.req_ids, num_scheduled_tokens, computed)
        return prepare_inputs(scheduler_output, num_scheduled_tokens)

    def scored_prompt_logprobs(hidden_states: torch.Tensor, num_scheduled_tokens: dict[str, int]) -> Any:
        steering.end_step(hidden_states)
        return prompt_logprobs(hidden_states, num_scheduled_tokens)

    def unsteered_dummy_run(*args: Any, **kwargs: Any) -> Any:
        steering.begin_dummy_step()
        return dummy_run(*args, **kwargs)

    def seeded_sample_tokens(*args: Any, **kwargs: Any) -> Any:
        generators = runner.input_batch.generators
        unfinished = np.flatnonzero(runner.discard_request_mask.np[: runner.input_batch.num_reqs]) if generators else ()
        set_aside = {int(at): generators.pop(int(at)) for at in unfinished if int(at) in generators}
        try:
            return sample_tokens(*args, **kwargs)
        finally:
            generators.update(set_aside)

    runner._update_states = steered_update_states  # noqa: SLF001
    runner._prepare_inputs = steered_prepare_inputs  # noqa: SLF001
    runner._get_prompt_logprobs_dict = scored_prompt_logprobs  # noqa: SLF001
    runner._dummy_run = unsteered_dummy_run  # noqa: SLF001
    runner.sample_tokens = seeded_sample_tokens
