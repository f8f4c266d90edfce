"""What a front end of vLLM accepts in a request, and what it sends to vLLM's core."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from ampsweep.domain.intervention import Intervention
from ampsweep.errors import InvalidRequest
from engine.vllm.plugin.front_end import FrontEnd
from engine.vllm.requests.request_extras import RequestExtras
from tests.engine.neuron_sets import info_of, make_neuron_set

NEURONS = make_neuron_set({"fr": [(0, 1), (1, 5)], "tr": [(2, 0)]}, patch=False)
INFO = info_of(NEURONS)
RAW = {"languages": ["fr"], "op": "scale", "factor": 3.0}
INTERVENTION = Intervention.from_dict(RAW)


def front_end(*, statistics: bool = True) -> FrontEnd:
    return FrontEnd(INFO, NEURONS, {"more-french": INTERVENTION}, statistics=statistics)


def request(value: object, *, prompt: list[int] | None = None, **more: Any) -> Any:
    """Return a request for vLLM's core that asks for `value`."""
    fields = {
        "prompt_token_ids": prompt or [3, 4, 5],
        "prompt_embeds": None,
        "cache_salt": None,
        "resumable": False,
        "sampling_params": SimpleNamespace(n=1, extra_args=None if value is None else {"ampsweep": value, "other": 1}),
    }
    return SimpleNamespace(**fields | more)


@pytest.mark.parametrize("value", [json.dumps(RAW), RAW, "more-french", f" {json.dumps(RAW)}"])
def test_text_object_and_preset_mean_the_same_intervention(value: object) -> None:
    asked = request(value)
    original = asked.sampling_params
    front_end().steer(asked)
    extras = RequestExtras.read(asked.sampling_params.extra_args)
    assert extras.steer is not None
    assert extras.steer.intervention == INTERVENTION
    assert (extras.steer.neurons, extras.steer.prompt_tokens, extras.steer.entries) == (NEURONS.id, 3, 2)
    assert asked.sampling_params.extra_args["other"] == 1
    assert original.extra_args["ampsweep"] == value, "the caller may use the parameters again"


def test_a_request_that_asks_for_nothing_is_left_as_it_is() -> None:
    for asked in (request(None), request(None, sampling_params=None), request(None, cache_salt="mine")):
        before = dict(vars(asked))
        front_end().steer(asked)
        assert vars(asked) == before


def test_steering_by_the_text_of_an_answer_is_refused_and_not_ignored() -> None:
    with pytest.raises(InvalidRequest, match="leave when out, or use ampsweep serve") as refused:
        front_end().steer(request(json.dumps({**RAW, "when": "drift"})))
    assert refused.value.param == "vllm_xargs.ampsweep.when"
    with pytest.raises(InvalidRequest, match="leave part out, or use ampsweep serve") as refused:
        front_end().steer(request(json.dumps({**RAW, "part": "answer"})))
    assert refused.value.param == "vllm_xargs.ampsweep.part"
    preset = Intervention.from_dict({**RAW, "when": "drift"})
    with pytest.raises(InvalidRequest, match="cannot switch") as refused:
        FrontEnd(INFO, NEURONS, {"drifting": preset}, statistics=True)
    assert refused.value.param == "drifting.when"


def test_only_equal_steering_shares_blocks_of_the_prefix_cache() -> None:
    def salt(value: object, **more: Any) -> str:
        asked = request(value, **more)
        front_end().steer(asked)
        return str(asked.cache_salt)

    generation = {**RAW, "scope": "generation"}
    assert salt(RAW) == salt("more-french") == salt(RAW, prompt=[1, 2])
    different = [
        salt(RAW),
        salt({**RAW, "factor": 2.0}),
        salt(RAW, cache_salt="a"),
        salt(RAW, cache_salt="b"),
        salt(generation),
        salt(generation, prompt=[1, 2]),
        salt({**RAW, "tokens": {"end": 2}}),
        salt({**RAW, "tokens": {"end": 2, "decay": 0.5}}),
        salt({**RAW, "tokens": {"positions": [0, 1]}}),
        salt({**generation, "tokens": {"end": 2}}),
    ]
    assert len(set(different)) == len(different)
    with pytest.raises(InvalidRequest, match="must not begin with"):
        front_end().steer(request(None, cache_salt=salt(RAW)))


@pytest.mark.parametrize(
    ("value", "param", "says"),
    [
        ("{", "vllm_xargs.ampsweep", "neither JSON nor the name of a preset"),
        ("more-frnch", "vllm_xargs.ampsweep", "unknown preset 'more-frnch'; known: more-french"),
        (3, "vllm_xargs.ampsweep", "ampsweep"),
        (json.dumps({**RAW, "factor": "3"}), "vllm_xargs.ampsweep.factor", "valid number"),
        ('{"op": "scale", "op": "set"}', "vllm_xargs.ampsweep.op", "twice"),
        (json.dumps({**RAW, "languages": ["de"]}), "vllm_xargs.ampsweep.languages", "de"),
        (json.dumps({**RAW, "layers": [9]}), "vllm_xargs.ampsweep.layers", "9"),
        ({"languages": ["fr"], "op": "set", "patch": "max"}, "vllm_xargs.ampsweep.patch", "patch"),
        ({"steer": {"key": "k"}}, "vllm_xargs.ampsweep.steer", "unknown key"),
    ],
)
def test_what_cannot_be_steered_is_refused_by_the_path_of_the_field(value: object, param: str, says: str) -> None:
    asked = request(value)
    for refuse, argument in ((front_end().check, asked.sampling_params.extra_args), (front_end().steer, asked)):
        with pytest.raises(InvalidRequest, match=says) as refused:
            refuse(argument)
        assert refused.value.param == param


def test_streamed_input_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="streamed input"):
        front_end().steer(request(RAW, resumable=True))


def test_statistics_need_workers_that_support_them() -> None:
    statistic = {"languages": ["fr"], "op": "set", "statistic": "mean"}
    front_end().check({"ampsweep": statistic})
    with pytest.raises(InvalidRequest) as refused:
        front_end(statistics=False).check({"ampsweep": statistic})
    assert refused.value.param == "vllm_xargs.ampsweep.statistic"


def test_a_preset_that_does_not_fit_fails_the_start() -> None:
    german = Intervention.from_dict({**RAW, "languages": ["de"]})
    with pytest.raises(InvalidRequest) as refused:
        FrontEnd(INFO, NEURONS, {"german": german}, statistics=True)
    assert refused.value.param == "german.languages"
