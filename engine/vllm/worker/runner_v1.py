"""The adapter to vLLM's V1 model runner.

It wraps these methods of the runner to inform `WorkerSteering`:

- `_update_states` runs once for every scheduler output, even one without tokens. Requests end and start there.
- `_prepare_inputs` runs before every forward pass, when the batch's order and positions are known.
- `_get_prompt_logprobs_dict` gets the last hidden states after every forward pass; scoring reads them there.
- `_dummy_run` is every other forward pass: profiling, warm-up and the capture of CUDA graphs.
- `sample_tokens` samples for every request of the batch, even for an unfinished prompt, whose token is thrown away.
  That sample must not advance the request's own generator, or chunked prefill would change the answers of a seed. vLLM
  rewinds the generator, which kills the engine on a CPU, where generators have no offset. Its output names the requests
  that overflowed.
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
    """Wrap the methods of a V1 runner; raise SteeringNotInstalled for any other runner."""
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
        set_aside = {int(index): generators.pop(int(index)) for index in unfinished if int(index) in generators}
        try:
            return steering.reported(sample_tokens(*args, **kwargs))
        finally:
            generators.update(set_aside)

    runner._update_states = steered_update_states  # noqa: SLF001
    runner._prepare_inputs = steered_prepare_inputs  # noqa: SLF001
    runner._get_prompt_logprobs_dict = scored_prompt_logprobs  # noqa: SLF001
    runner._dummy_run = unsteered_dummy_run  # noqa: SLF001
    runner.sample_tokens = seeded_sample_tokens
