"""The provider of Inspect with a server on a socket."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ampsweep.client import AsyncClient
from ampsweep.errors import InvalidRequest
from ampsweep.inspect_options import NO_EFFECT, PASSED, REFUSED
from tests.api.threaded_server import server_in_thread
from tests.worker.installation import SPEC, Installation

pytestmark = [
    pytest.mark.processes,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Inspect's own code
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # of its unclosed streams
]

MESSAGE = "What is the capital of France?"
RESPONSE_SCHEMA = {"name": "answer", "json_schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}
SCALE = {"languages": ["fr"], "op": "scale", "factor": 2.0}


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """Find the streams that Inspect leaves open here, where the warning is ignored, and not in a later test."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a neuron set and a named intervention."""
    installation = Installation.build(tmp_path_factory.mktemp("installation"))
    with server_in_thread(installation) as (address, _):
        asyncio.run(_prepare(address))
        yield address


async def _prepare(address: str) -> None:
    async with AsyncClient(address) as client:
        await client.wait((await client.submit(SPEC)).id)
        await client._session.json(_named())


def _named() -> Any:
    from ampsweep.client.http.session import post

    return post("/interventions", {"name": "fr", "intervention": SCALE})


async def answer(url: str, model: str = "tiny", *, tools: list[Any] | None = None, **fields: Any) -> Any:
    from inspect_ai.model import ChatMessageSystem, ChatMessageUser, GenerateConfig

    from ampsweep.inspect_provider import AmpsweepAPI

    config = GenerateConfig(**fields.pop("config", {"max_tokens": 4}))
    provider = AmpsweepAPI(model, base_url=f"{url}/v1", **fields)
    try:
        messages = [ChatMessageSystem(content="Be brief."), ChatMessageUser(content=MESSAGE)]
        return await provider.generate(messages, tools or [], "none", config)
    finally:
        await provider.aclose()


def test_an_answer_is_that_of_the_server(url: str) -> None:
    async def of_client() -> Any:
        async with AsyncClient(url) as client:
            messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": MESSAGE}]
            return await client.chat("tiny", messages, max_completion_tokens=4, n=2, seed=1, temperature=1.0)

    config = {"max_tokens": 4, "num_choices": 2, "seed": 1, "temperature": 1.0, "logprobs": True, "top_logprobs": 1}
    output, expected = asyncio.run(answer(url, config=config)), asyncio.run(of_client())
    assert [choice.message.text for choice in output.choices] == [choice.text for choice in expected.choices]
    assert {choice.stop_reason for choice in output.choices} == {"max_tokens"}
    assert output.usage.output_tokens == expected.usage.completion_tokens
    assert len(output.choices[0].logprobs.content) == 4
    assert output.metadata == {"neuron_set": None}


def test_an_intervention_is_an_object_a_text_or_a_name(url: str) -> None:
    plain = asyncio.run(answer(url))
    ways: list[dict[str, Any]] = [
        {"intervention": SCALE},
        {"intervention": '{"languages": ["fr"], "op": "scale", "factor": 2.0}'},
        {"intervention": "fr"},
        {"model": "tiny+fr"},
    ]
    steered = [asyncio.run(answer(url, **way)) for way in ways]
    assert len({output.completion for output in steered}) == 1
    assert steered[0].completion != plain.completion
    assert all(output.metadata["neuron_set"].startswith("ns_") for output in steered)


def test_a_model_without_a_chat_template_continues_the_text(url: str) -> None:
    async def of_client() -> str:
        async with AsyncClient(url) as client:
            prompt = f"Be brief.\n\n{MESSAGE}"
            return (await client.complete("tiny", prompt, max_tokens=4, intervention=SCALE)).text

    output = asyncio.run(answer(url, chat=False, intervention=SCALE))
    assert output.completion == asyncio.run(of_client())
    with pytest.raises(InvalidRequest, match="logprobs is not supported with chat=false"):
        asyncio.run(answer(url, chat=False, config={"max_tokens": 4, "logprobs": True}))


def test_what_the_server_cannot_answer_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="does not support tools"):
        asyncio.run(answer(url, tools=["a tool"]))
    with pytest.raises(InvalidRequest, match="not valid JSON"):
        asyncio.run(answer(url, intervention="{"))


def test_every_setting_of_inspect_is_known() -> None:
    from inspect_ai.model import GenerateConfig

    assert set(GenerateConfig.model_fields) - {*PASSED, *NO_EFFECT, *REFUSED} == set()


def test_settings_are_sent_and_those_without_a_counterpart_are_refused(url: str) -> None:
    """The chat template of the model writes the effort; the fake engine answers by the prompt."""
    plain = asyncio.run(answer(url))
    low, high = (
        asyncio.run(answer(url, config={"max_tokens": 4, "reasoning_effort": effort})) for effort in ("low", "high")
    )
    assert len({plain.completion, low.completion, high.completion}) == 3
    biased = asyncio.run(answer(url, config={"max_tokens": 4, "logit_bias": {3: 100.0}})).completion.split()
    assert (len(biased), len(set(biased))) == (4, 1)
    with pytest.raises(InvalidRequest, match="effort is not supported; give reasoning_effort"):
        asyncio.run(answer(url, config={"effort": "high"}))
    with pytest.raises(InvalidRequest, match="require the vllm engine"):
        asyncio.run(answer(url, config={"response_schema": RESPONSE_SCHEMA}))


def test_an_evaluation_runs(url: str, tmp_path: Path) -> None:
    from inspect_ai import Task
    from inspect_ai import eval as evaluate
    from inspect_ai.dataset import Sample
    from inspect_ai.scorer import includes

    import ampsweep.inspect_provider  # noqa: F401  # Inspect finds it by the entry point of the installed package

    expected = asyncio.run(answer_alone(url))
    task = Task(dataset=[Sample(input=MESSAGE, target=expected), Sample(input=MESSAGE, target="\n")], scorer=includes())
    (log,) = evaluate(
        task,
        model="ampsweep/tiny",
        model_base_url=url,
        model_args={"intervention": SCALE},
        max_tokens=4,
        log_dir=str(tmp_path),
        display="none",
    )
    assert log.status == "success", log.error
    assert log.results.scores[0].metrics["accuracy"].value == 0.5


async def answer_alone(url: str) -> str:
    async with AsyncClient(url) as client:
        messages = [{"role": "user", "content": MESSAGE}]
        return (await client.chat("tiny", messages, max_completion_tokens=4, intervention=SCALE)).text
