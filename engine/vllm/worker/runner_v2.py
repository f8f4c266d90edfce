"""The adapter to vLLM's V2 model runner.

It wraps these methods of the runner to inform `WorkerSteering`:

- `finish_requests` and `add_requests` run for every scheduler output, even one without tokens. A preempted request is
  dropped by the first and added again by the second, under its old id.
- `prepare_inputs` sets the batch's order and positions, just before the forward pass.
- `execute_model` leaves the last hidden states for the sampler; scoring reads them there.
- `sample_tokens` returns the output, in which requests are named that overflowed.
- `_dummy_run` is every other forward pass, except those inside the capture of CUDA graphs, which precede all requests.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.worker.gpu.model_runner import GPUModelRunner

from ampsweep.errors import SteeringNotInstalled
from engine.vllm.worker.steering import WorkerSteering


def attach(runner: object, steering: WorkerSteering) -> None:
    """Wrap the methods of a V2 runner; raise SteeringNotInstalled for any other runner."""
    if not isinstance(runner, GPUModelRunner):
        raise SteeringNotInstalled(f"{type(runner).__name__} is not vLLM's V2 model runner")
    finish_requests = runner.finish_requests
    add_requests = runner.add_requests
    prepare_inputs = runner.prepare_inputs
    execute_model = runner.execute_model
    sample_tokens = runner.sample_tokens
    dummy_run = runner._dummy_run  # noqa: SLF001

    def steered_finish_requests(scheduler_output: SchedulerOutput) -> None:
        for request_id in scheduler_output.finished_req_ids:
            steering.finish(request_id)
        finish_requests(scheduler_output)

    def steered_add_requests(scheduler_output: SchedulerOutput) -> None:
        for request in scheduler_output.scheduled_new_reqs:
            params = request.sampling_params
            extra_args = None if params is None else params.extra_args
            steering.start(request.req_id, extra_args, request.prompt_token_ids or ())
        add_requests(scheduler_output)

    def steered_prepare_inputs(*args: Any, **kwargs: Any) -> Any:
        batch = prepare_inputs(*args, **kwargs)
        steering.begin_step(batch.req_ids, batch.num_scheduled_tokens, batch.num_computed_tokens_np)
        return batch

    def scored_execute_model(
        scheduler_output: SchedulerOutput, *args: Any, dummy_run: bool = False, **kwargs: Any
    ) -> Any:
        output = execute_model(scheduler_output, *args, dummy_run=dummy_run, **kwargs)
        state = runner.execute_model_state
        if not dummy_run and state is not None and state.hidden_states is not None:
            steering.end_step(state.hidden_states)
        return output

    def reporting_sample_tokens(*args: Any, **kwargs: Any) -> Any:
        return steering.reported(sample_tokens(*args, **kwargs))

    def unsteered_dummy_run(*args: Any, **kwargs: Any) -> Any:
        steering.begin_dummy_step()
        return dummy_run(*args, **kwargs)

    runner.finish_requests = steered_finish_requests
    runner.add_requests = steered_add_requests
    runner.prepare_inputs = steered_prepare_inputs
    runner.execute_model = scored_execute_model
    runner.sample_tokens = reporting_sample_tokens
    runner._dummy_run = unsteered_dummy_run  # noqa: SLF001
