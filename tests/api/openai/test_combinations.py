"""Whatever an intervention combines, it steers, or the request is refused by the name of a field before it begins."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from ampsweep.domain.intervention import InterventionSpec
from ampsweep.errors import InvalidRequest
from engine.base import EngineInfo
from engine.fake import FAKE_INFO
from engine.neurons.neuron_set import NeuronSet
from engine.vllm.plugin.front_end import FrontEnd
from tests.api.openai.completion import REQUEST, pieces
from tests.api.running_server import Server, running_server
from tests.worker.installation import Installation

pytestmark = pytest.mark.anyio

DRAWS = 150
VALUES: dict[str, list[Any]] = {
    "languages": [["fr"], ["en", "tr"], {"fr": 0.5, "tr": -1}, ["en", "fr", "tr"], ["xx"], [], {"fr": "much"}],
    "op": ["scale", "add", "set", "set", "add", "divide"],
    "factor": [2, 0, -1.5, 2e6, "2"],
    "patch": ["max", "mean", "difference", "least"],
    "statistic": ["max", "p97.50", "iqr", "p101"],
    "layers": ["all", [1], [3, 0], [9], "each"],
    "scope": ["all", "prompt", "generation", "answer"],
    "selection": ["random", "other", "zero", "non_language", "repeat"],
    "seed": [3, -1],
    "non_target": [{"op": "scale", "factor": 0}, {"op": "scale"}],
    "other": ["tr", "xx"],
    "source": [{"language": "en", "op": "set", "factor": 0}, {"op": "set", "factor": 0}],
    "vector": ["diffmean", "diffmean_raw", "mean"],
    "neuron": [[0, 1], [9, 1], [1]],
    "tokens": [{"end": 3}, {"start": -4}, {"positions": [0, 2], "decay": 0.5}, {"start": 3, "end": 2}, {}],
    "when": ["drift", {"drift": {"window": 20}}, {"drift": {"window": 2}}],
    "part": ["thinking", "answer", "rest"],
}
ALWAYS = ("languages", "op", "factor")
BODIES: list[dict[str, Any]] = [
    {},
    {"n": 2, "temperature": 1.0, "seed": 1},
    {"logprobs": 2},
    {"echo": True, "logprobs": 1},
    {"echo": True, "max_tokens": 0},
    {"stop": ["a"]},
    {"prompt": ["one", "two"]},
]


def draw(random: Random) -> dict[str, Any]:
    """Return an intervention with a few keys, each right most of the time."""
    raw = {}
    for name, values in VALUES.items():
        if random.random() < (0.92 if name in ALWAYS else 0.13):
            is_any = random.random() < 0.25
            raw[name] = random.choice(values if is_any else values[: max(1, len(values) // 2)])
    return raw


async def test_a_combination_steers_or_is_refused_by_name(installation: Installation) -> None:
    random = Random(0)
    steered, fields = 0, set()
    async with running_server(installation) as server:
        await server.done()
        (path,) = [path for path in installation.data.glob("neurons/ns_*") if path.is_dir()]
        neurons = NeuronSet.load(path)
        info = EngineInfo(**{**vars(FAKE_INFO), "fingerprint": neurons.fingerprint})
        plugin = FrontEnd(info, neurons, {}, statistics=True)
        for _ in range(DRAWS):
            raw, body = draw(random), random.choice(BODIES)
            refused = await refusal(server, {**body, "intervention": raw})
            in_xargs = await refusal(server, {**body, "vllm_xargs": {"ampsweep": json.dumps(raw)}})
            assert (in_xargs or "").removeprefix("vllm_xargs.ampsweep") == (refused or "").removeprefix("intervention")
            by_plugin, follows_text = refusal_of(plugin, raw), {"when", "part"} & {*raw}
            if refused is None:
                steered += 1
                assert by_plugin is None or by_plugin in follows_text, raw
                continue
            fields.add(refused)
            first, _, rest = refused.partition(".")
            assert first == "intervention", (raw, refused)
            assert rest.split(".")[0] in {*InterventionSpec.model_fields, ""}, (raw, refused)
            if not follows_text:
                assert by_plugin == rest, raw
    assert steered > DRAWS / 4
    assert len(fields) > 12


async def refusal(server: Server, changes: dict[str, Any]) -> str | None:
    """Return the field by which a request is refused, streamed or not; None if it is answered."""
    refused: list[str | None] = []
    for stream in (False, True):
        answer = await server.http.post("/v1/completions", json={**REQUEST, **changes, "stream": stream})
        assert answer.status_code in (200, 400), answer.text
        if answer.status_code == 400:
            refused.append(answer.json()["error"]["param"])
            continue
        refused.append(None)
        assert '"error"' not in answer.text
        assert not stream or pieces(answer.text)[-1] == "[DONE]"
    assert refused[0] == refused[1]
    return refused[0]


def refusal_of(plugin: FrontEnd, raw: dict[str, Any]) -> str | None:
    """Return the field by which vLLM's own server refuses an intervention."""
    try:
        plugin.check({"ampsweep": json.dumps(raw)})
    except InvalidRequest as error:
        return str(error.param).removeprefix("vllm_xargs.ampsweep").removeprefix(".")
    return None
