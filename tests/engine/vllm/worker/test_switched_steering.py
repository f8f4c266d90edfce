"""Which tokens of a step are steered if the steering of a request is switched, tested without vLLM."""

from __future__ import annotations

import pytest

from ampsweep.domain.intervention import Intervention
from engine.base import Steering
from engine.vllm.requests.request_extras import RequestExtras, steering_args
from tests.engine.vllm.worker.one_layer import FORMS, SiluAndMul, make_worker, run_layer, steer, steered_tokens


@pytest.mark.parametrize("backend_name", ["cpu", "cuda"])
def test_steering_is_switched_by_position_and_a_recomputed_token_is_steered_as_before(backend_name: str) -> None:
    worker = make_worker(backend_name, FORMS, SiluAndMul())
    steering = worker.steering
    for name in "ab":
        parsed = Intervention.from_dict({"languages": ["fr"], "op": "set", "factor": 9.0, "when": "drift"})
        args = steering_args(Steering(intervention=parsed, neurons="ns_test"), 2, switch=f"switch-{name}")
        steering.start(name, RequestExtras(steer=args).extra_args(), [0, 1])
    steering.start("always", steer(2), [0, 1])
    states = []
    for step in range(2, 9):
        steering.begin_step(["a", "always", "b"], [1, 1, 1], [step, step, step])
        states.append(steered_tokens(run_layer(worker, 3)))
        if step in (3, 6):  # the next step may be in flight already: the switch is for the token after the next one
            steering.switch({"switch-a": step + 2})
    assert [a for a, _, _ in states] == [False, False, False, True, True, True, False]
    assert all(always for _, always, _ in states)
    assert not any(b for _, _, b in states)
    for first, count in ((0, 6), (6, 3)):  # preempted, and computed again in chunks
        steering.start("a", None, [0, 1])
        steering.begin_step(["b", "a"], [1, count], [9, first])
        expected = [first + token in (5, 6, 7) for token in range(count)]
        assert steered_tokens(run_layer(worker, 1 + count)) == [False, *expected]
    steering.finish("a")
    steering.switch({"switch-a": 12})  # sent before it was known that the request has ended
    steering.begin_step(["b", "always"], [1, 1], [10, 9])
    assert steered_tokens(run_layer(worker, 2)) == [False, True]


@pytest.mark.parametrize("backend_name", ["cpu", "cuda"])
def test_steering_may_be_on_from_the_first_generated_token_on(backend_name: str) -> None:
    worker = make_worker(backend_name, FORMS, SiluAndMul())
    parsed = Intervention.from_dict({"languages": ["fr"], "op": "set", "factor": 9.0, "part": "thinking"})
    args = steering_args(Steering(intervention=parsed, neurons="ns_test"), 2, switch="switch-a", on=True)
    worker.steering.start("a", RequestExtras(steer=args).extra_args(), [0, 1])
    worker.steering.switch({"switch-a": 4})
    worker.steering.begin_step(["a"], [6], [0])
    assert steered_tokens(run_layer(worker, 6)) == [False, False, True, True, False, False]
