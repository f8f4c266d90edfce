"""`vllm serve` with the plug-in: its answers are those of the reference implementation, steered and unsteered."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from ampsweep.domain.generation.prompt import ChatMessage, Prompt
from ampsweep.domain.generation.sampling import SamplingParams
from ampsweep.domain.intervention import Intervention
from benchmarks.comparisons.mixed_load import random_neurons
from benchmarks.models.adapter import tiny_adapter
from benchmarks.models.families import tiny_model
from engine.base import GenerateRequest, Steering
from engine.hf.engine import TransformersEngine
from engine.neurons.neuron_set import NeuronSet
from tests.all_pairs import Chosen, all_pairs
from tests.engine.both_engines import CHAT_TEMPLATE
from tests.engine.combinations import INTERVENTION, SWITCHED, entropies, intervention, is_valid
from tests.engine.neuron_sets import TOO_STRONG, with_a_strong_language
from tests.engine.plain_model import PlainModel
from tests.engine.plain_rules import Rules, in_form, strengths_of
from tests.engine.vllm.plugin.vllm_server import START_SECONDS, VllmServer, vllm_serve

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300 + START_SECONDS)]

SLOTS = 2
TOKENS = 12
PROJECTIONS = ("q_proj", "o_proj", "gate_proj", "down_proj")
"""Those that the adapter changes."""
PROMPT = "in the beginning there was the sea and the wind and the rain"
OPTIONS = (
    *("--dtype", "float32", "--enforce-eager", "--max-model-len", "256", "--max-num-seqs", "8"),
    *("--block-size", "32", "--kv-cache-memory-bytes", str(64 * 1024**2), "--served-model-name", "tiny"),
    *("--max-num-batched-tokens", "64", "--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
)
PRESET = {"languages": ["fr"], "op": "set", "factor": 1.5, "scope": "generation"}
INTERVENTIONS: tuple[dict[str, Any], ...] = (
    {"languages": ["fr"], "op": "scale", "factor": 4.0},
    {"languages": ["tr"], "op": "set", "factor": 2.0},
    {"languages": ["fr", "tr"], "op": "add", "factor": 1.0, "scope": "prompt"},
    {"languages": ["fr"], "op": "add", "statistic": "max", "factor": 1.0, "layers": [1]},
    PRESET,
)
Answer = tuple[list[int], list[float]]
"""Token ids and their log-probabilities."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """The server and the reference implementation on the same model and neuron set.

    `merged` is the reference implementation on the model with the adapter merged in. `plain` has, for each name of a
    model, one that shares no code of steering with the server.
    """

    server: VllmServer
    reference: TransformersEngine
    merged: TransformersEngine
    plain: Mapping[str, PlainModel]
    neurons: NeuronSet
    texts: list[str]  # of the tokens; empty for special ones

    def expected(self, prompt: Prompt, raw: dict[str, Any] | None, *, adapter: bool = False) -> Answer:
        async def answer() -> Answer:
            steering = raw and Steering(intervention=Intervention.from_dict(raw), neurons=self.neurons.id)
            sampling = SamplingParams(max_tokens=TOKENS, ignore_eos=True)
            request = GenerateRequest(prompt=prompt, sampling=sampling, steering=steering or None)
            tokens: list[int] = []
            logprobs: list[float] = []
            async for chunk in (self.merged if adapter else self.reference).generate(request):
                tokens.extend(chunk.token_ids)
                logprobs.extend(chunk.logprobs)
            return tokens, logprobs

        return asyncio.run(answer())

    def complete(self, value: object, **more: Any) -> httpx.Response:
        return self.server.post("/v1/completions", body(value, prompt=PROMPT, **more))

    def chat(self, value: object, **more: Any) -> httpx.Response:
        messages = [{"role": "user", "content": PROMPT}]
        return self.server.post("/v1/chat/completions", body(value, messages=messages, **more))


def body(value: object, **more: Any) -> dict[str, Any]:
    """Return the body of a greedy request that asks for an intervention."""
    text = value if value is None or isinstance(value, str) else json.dumps(value)
    steered = {} if text is None else {"vllm_xargs": {"ampsweep": text}}
    fields = {"model": "tiny", "max_tokens": TOKENS, "temperature": 0.0, "ignore_eos": True, "return_token_ids": True}
    return fields | steered | more


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("serve")
    model = tiny_model("llama", folder / "model")
    (model / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    reference = TransformersEngine(model)
    neurons = with_a_strong_language(random_neurons(reference.info))
    neurons = replace(neurons, entropy=entropies(neurons.widths))
    reference.add_neurons(neurons)
    neurons.save(folder / "neurons")
    adapter, merged_folder = tiny_adapter(model, folder / "style", targets=PROJECTIONS, seed=1)
    merged = TransformersEngine(merged_folder)
    merged.add_neurons(replace(neurons, fingerprint=merged.info.fingerprint))
    presets = folder / "presets.yaml"
    presets.write_text(json.dumps({"steady": PRESET}))
    variables = {
        "AMPSWEEP_NEURONS": str(folder / "neurons"),
        "AMPSWEEP_PRESETS": str(presets),
        "AMPSWEEP_SLOTS": str(SLOTS),
        "VLLM_LOGGING_LEVEL": "INFO",
    }
    lora = ("--enable-lora", "--max-loras", "2", "--max-lora-rank", "8", "--lora-modules", f"style={adapter}")
    with vllm_serve(model, folder, variables, *OPTIONS, *lora) as server:
        plain = {"tiny": PlainModel(model), "style": PlainModel(merged_folder)}
        texts = ["", "", *(reference.encoder.text([token]) for token in range(2, 276))]
        yield Site(server=server, reference=reference, merged=merged, plain=plain, neurons=neurons, texts=texts)
    asyncio.run(reference.close())
    asyncio.run(merged.close())


def of_completion(answer: httpx.Response) -> Answer:
    assert answer.status_code == 200, answer.text
    choice = answer.json()["choices"][0]
    return choice["token_ids"], choice["logprobs"]["token_logprobs"]


def assert_same(ours: Answer, theirs: Answer) -> None:
    assert ours[0] == theirs[0]
    np.testing.assert_allclose(ours[1], theirs[1], rtol=0, atol=1e-4)


def test_the_log_says_that_the_server_steers(site: Site) -> None:
    neurons = f"neuron set {site.neurons.id} with the languages {', '.join(site.neurons.languages)}"
    line = f"Ampsweep can steer requests, its self-test passed: {neurons}\n"
    assert site.server.log.read_text(encoding="utf-8").count(line) == 1


def test_every_request_of_a_mixed_load_is_steered_as_the_reference_does_it(site: Site) -> None:
    asked: list[dict[str, Any] | None] = [*INTERVENTIONS, None] * 3
    with ThreadPoolExecutor(len(asked)) as threads:
        answers = list(threads.map(lambda raw: of_completion(site.complete(raw, logprobs=0)), asked))
    expected = {json.dumps(raw): site.expected(PROMPT, raw) for raw in asked[: len(INTERVENTIONS) + 1]}
    assert len({tuple(tokens) for tokens, _ in expected.values()}) > 3, "the interventions change the answers"
    for raw, answer in zip(asked, answers, strict=True):
        assert_same(answer, expected[json.dumps(raw)])


def test_an_adapter_and_an_intervention_act_together(site: Site) -> None:
    asked = [*INTERVENTIONS[:3], None] * 2
    with ThreadPoolExecutor(len(asked) * 2) as threads:
        plain = [threads.submit(site.complete, raw, logprobs=0) for raw in asked]
        adapted = [threads.submit(site.complete, raw, logprobs=0, model="style") for raw in asked]
        for raw, without, given in zip(asked, plain, adapted, strict=True):
            assert_same(of_completion(given.result()), site.expected(PROMPT, raw, adapter=True))
            assert_same(of_completion(without.result()), site.expected(PROMPT, raw))
    assert site.expected(PROMPT, None, adapter=True)[0] != site.expected(PROMPT, None)[0]


def test_a_preset_is_named_and_several_choices_are_all_steered(site: Site) -> None:
    answer = site.complete("steady", n=3, temperature=1.0, top_k=1, logprobs=0)  # vLLM takes no n > 1 when greedy
    assert answer.status_code == 200, answer.text
    expected = site.expected(PROMPT, PRESET)
    for choice in answer.json()["choices"]:
        assert_same((choice["token_ids"], choice["logprobs"]["token_logprobs"]), expected)


def test_the_requests_of_the_self_test_are_not_counted(site: Site) -> None:
    before = site.server.metrics().get("ampsweep:steered_requests_total", 0.0)
    site.complete(INTERVENTIONS[0])
    assert site.server.metrics()["ampsweep:steered_requests_total"] == before + 1


def test_chats_and_streams_are_steered_through_openais_client(site: Site) -> None:
    raw = INTERVENTIONS[0]
    chat: tuple[ChatMessage, ...] = (ChatMessage(role="user", content=PROMPT),)
    expected = site.expected(chat, raw)
    client = openai.OpenAI(base_url=f"{site.server.url}/v1", api_key="none")
    more: Any = {"ignore_eos": True, "vllm_xargs": {"ampsweep": json.dumps(raw)}}
    message: Any = {"role": "user", "content": PROMPT}
    fields: Any = {"model": "tiny", "messages": [message], "max_tokens": TOKENS, "temperature": 0.0, "logprobs": True}
    whole = client.chat.completions.create(**fields, extra_body=more)
    values = [token.logprob for token in whole.choices[0].logprobs.content]
    np.testing.assert_allclose(values, expected[1], rtol=0, atol=1e-4)
    stream = client.chat.completions.create(**fields, stream=True, extra_body=more)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text == whole.choices[0].message.content
    plain = client.chat.completions.create(**fields, extra_body={"ignore_eos": True})
    assert plain.choices[0].message.content != text


def test_responses_tools_and_structured_output_go_together_with_steering(site: Site) -> None:
    raw = INTERVENTIONS[1]
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    tool = {"type": "function", "function": {"name": "look", "parameters": schema}}
    plain, steered = (
        site.chat(value, tools=[tool], tool_choice="none", logprobs=True).json()["choices"][0] for value in (None, raw)
    )
    assert plain["message"]["content"] != steered["message"]["content"]
    grammar = {"structured_outputs": {"regex": "[ab]{8}"}, "max_tokens": 8, "ignore_eos": False, "logprobs": 0}
    plain, steered = (site.complete(value, **grammar).json()["choices"][0] for value in (None, raw))
    assert set(plain["text"]) | set(steered["text"]) <= {"a", "b"}
    assert plain["logprobs"]["token_logprobs"] != steered["logprobs"]["token_logprobs"]
    asked = {"model": "tiny", "input": PROMPT, "max_output_tokens": TOKENS, "temperature": 0.0}
    answers = [
        site.server.post("/v1/responses", {**asked, **({"vllm_xargs": {"ampsweep": json.dumps(raw)}} if on else {})})
        for on in (False, True)
    ]
    assert [answer.status_code for answer in answers] == [200, 200], answers[1].text
    assert answers[0].json()["output"] != answers[1].json()["output"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("value", "param"),
    [
        ({**INTERVENTIONS[0], "factor": "x"}, "vllm_xargs.ampsweep.factor"),
        ({**INTERVENTIONS[0], "languages": ["xx"]}, "vllm_xargs.ampsweep.languages"),
        ("stedy", "vllm_xargs.ampsweep"),
    ],
)
def test_a_wrong_field_is_answered_with_400_before_a_stream_begins(
    value: object, param: str, *, stream: bool, site: Site
) -> None:
    for send in (site.complete, site.chat):
        answer = send(value, stream=stream)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert site.complete(None).status_code == 200, "the server lives on"


def test_beam_search_is_refused_by_name(site: Site) -> None:
    for send in (site.complete, site.chat):
        answer = send(PRESET, use_beam_search=True, n=2)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "use_beam_search"), answer.text


def test_more_interventions_than_slots_wait_and_all_are_answered(site: Site) -> None:
    """Send twelve interventions to two slots; some clients hang up while they wait."""
    before = site.server.metrics()
    seen: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(site.server.metrics()["ampsweep:slots_used"])

    def ask(index: int) -> Answer | None:
        raw = {"languages": ["fr"], "op": "scale", "factor": 2.0 + index / 8}
        if index % 4 == 3:  # this client does not wait
            try:
                url, hurried = f"{site.server.url}/v1/completions", body(raw, prompt=PROMPT, max_tokens=200)
                httpx.post(url, json=hurried, timeout=0.3)
            except httpx.TimeoutException:
                return None
        return of_completion(site.complete(raw, logprobs=0))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(12) as threads:
            answers = list(threads.map(ask, range(12)))
    finally:
        done.set()
        watcher.join()
    for index, answer in enumerate(answers):
        if answer is not None:
            assert_same(answer, site.expected(PROMPT, {"languages": ["fr"], "op": "scale", "factor": 2.0 + index / 8}))
    assert max(seen) <= SLOTS
    site.complete(None)
    after = site.server.metrics()
    assert after["ampsweep:slots"] == SLOTS
    assert after["ampsweep:slots_used"] == after["ampsweep:requests_waiting_for_slot"] == 0
    assert after["ampsweep:steered_requests_total"] - before["ampsweep:steered_requests_total"] >= 9


def test_the_prefix_cache_tells_steered_and_unsteered_prefixes_apart(site: Site) -> None:
    prompt = PROMPT * 2  # several blocks
    for raw in (None, INTERVENTIONS[0], None, INTERVENTIONS[1], INTERVENTIONS[0]):
        answer = site.server.post("/v1/completions", body(raw, prompt=prompt, logprobs=0))
        assert_same(of_completion(answer), site.expected(prompt, raw))


def test_an_intervention_that_overflows_is_refused_and_counted(site: Site) -> None:
    before = site.server.metrics()
    for send in (site.complete, site.chat):
        refused = send(TOO_STRONG)
        error = refused.json()["error"]
        assert (refused.status_code, error["param"]) == (400, "vllm_xargs.ampsweep"), refused.text
        assert "the intervention is too strong" in error["message"]
    stream = site.complete({**TOO_STRONG, "scope": "generation"}, stream=True).text
    events = [json.loads(line.removeprefix("data: ")) for line in stream.splitlines() if line.startswith("data: {")]
    assert "choices" in events[0], "the first token does not depend on the answer"
    assert "the intervention is too strong" in events[-1]["error"]["message"]
    assert_same(of_completion(site.complete(None, logprobs=0)), site.expected(PROMPT, None))
    after = site.server.metrics()
    overflowed = "ampsweep:overflowed_requests_total"
    assert after[overflowed] - before.get(overflowed, 0) == 3
    assert after["ampsweep:slots_used"] == 0
    assert site.server.log.read_text().count("ended with an error: the intervention is too strong") == 1


DIMENSIONS = {name: list(choices) for name, choices in INTERVENTION.items()} | {
    "tokens": [name for name in INTERVENTION["tokens"] if name not in SWITCHED],
    "request": ["text", "chat", "token ids", "stream"],
    "sampling": ["greedy", "choices", "stop", "form", "penalties"],
    "model": ["tiny", "style"],
}
SAMPLING: dict[str, dict[str, Any]] = {
    "greedy": {},
    "choices": {"n": 2, "temperature": 0.8, "seed": 7},
    "stop": {"stop": ["never", "w"], "min_tokens": 2},
    "form": {"structured_outputs": {"regex": "[ab ]{8}"}, "ignore_eos": False},
    "penalties": {"repetition_penalty": 1.5, "logit_bias": {"40": 2.0}},
}


def test_every_two_choices_are_exact_together(site: Site) -> None:
    """Compare all answers with hooks that follow the documentation; see `tests.engine.plain_rules`."""
    drawn = all_pairs(DIMENSIONS, is_valid, seed=int(os.environ.get("AMPSWEEP_COMBINATION_SEED", "0")))
    raws = [json.loads(json.dumps(intervention(chosen, site.neurons)).replace('"ja"', '"tr"')) for chosen in drawn]
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda chosen, raw: _asked(site, chosen, raw), drawn, raws))
    failures = []
    for chosen, raw, (prompt, choices) in zip(drawn, raws, answers, strict=True):
        for tokens, logprobs in choices:
            ids = [*prompt, *tokens[:-1]]
            strengths = strengths_of(raw, prompt_tokens=len(prompt), total=len(ids))
            logits = site.plain[chosen["model"]].run(ids, Rules(raw, site.neurons), strengths).logits[len(prompt) - 1 :]
            if chosen["sampling"] == "form":
                logits = in_form(logits, tokens, site.texts, letters="ab ", least=8, most=8, end=1)
            expected = logits.log_softmax(dim=-1)
            own = expected[range(len(tokens)), tokens]
            is_likeliest = chosen["sampling"] != "greedy" or (own > expected.max(dim=1).values - 1e-4).all()
            if not is_likeliest or not np.allclose(logprobs, own, rtol=2e-4, atol=2e-4):
                failures.append(f"{chosen}\n{raw}\n{tokens}\n{logprobs}\n{own.tolist()}")
    assert not failures, f"{len(failures)} of {len(drawn)} differ:\n" + "\n\n".join(failures[:5])


def _asked(site: Site, chosen: Chosen, raw: dict[str, Any]) -> tuple[list[int], list[Answer]]:
    """Return the tokens of the prompt, and the answers to one request."""
    fields = {"max_tokens": 8, "model": chosen["model"], **SAMPLING[chosen["sampling"]]}
    if chosen["request"] == "chat":
        answer = site.chat(raw, logprobs=True, **fields)
        assert answer.status_code == 200, (chosen, raw, answer.text)
        content = answer.json()
        values = [[each["logprob"] for each in one["logprobs"]["content"]] for one in content["choices"]]
        pairs = zip(content["choices"], values, strict=True)
        return content["prompt_token_ids"], [(one["token_ids"], logprobs) for one, logprobs in pairs]
    prompt: str | list[int] = PROMPT if chosen["request"] != "token ids" else [0, *range(40, 80)]
    if chosen["request"] == "stream":
        fields |= {"stream": True}
    answer = site.server.post("/v1/completions", body(raw, prompt=prompt, logprobs=0, **fields))
    assert answer.status_code == 200, (chosen, raw, answer.text)
    if chosen["request"] != "stream":
        choices = answer.json()["choices"]
    else:
        lines = answer.text.splitlines()
        events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
        choices = [choice for event in events for choice in event["choices"]]
    by_index: dict[int, Answer] = {}
    for choice in choices:
        tokens, logprobs = by_index.setdefault(choice["index"], ([], []))
        tokens.extend(choice["token_ids"] or [])
        logprobs.extend(choice["logprobs"]["token_logprobs"] if choice["logprobs"] else [])
    return choices[0]["prompt_token_ids"], list(by_index.values())
