"""Two servers on one store: an evaluation is computed once at a time, and outlives the server that computed it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from ampsweep.domain.generation.chunk import Chunk
from ampsweep.errors import EngineLost, InvalidRequest, Unavailable
from jobs.evaluation.records import EvaluationRecord, EvaluationState
from jobs.evaluation.request import parse_evaluation
from jobs.execution import CompletionCall
from jobs.store.records import SweepRecord
from jobs.store.transitions import SweepState
from tests.jobs.cluster import ManualClock
from tests.worker.installation import Installation, drain
from worker.evaluation.service import LeasedEvaluationService
from worker.leased_service import RETRY_SECONDS

pytestmark = pytest.mark.anyio

TEXTS = 3
TTL = 30.0
GENERATION = {
    "interventions": {"languages": ["fr", "tr"], "op": "scale", "factors": [0.5, 2.0]},
    "tasks": [{"name": "generation", "data": "texts", "languages": ["en"]}],
}
RELEVANCE = parse_evaluation({"metrics": ["relevance"], "judge": {"model": "tiny"}})


class StubJudge:
    """Replies "1" to `limit` calls, and never to further ones; `error` is raised by all calls, if it is set."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.error: Exception | None = None
        self.prompts: list[str] = []
        self.blocked = asyncio.Event()

    async def stream(self, call: CompletionCall) -> AsyncGenerator[Chunk]:
        if self.error is not None:
            raise self.error
        if self.limit is not None and len(self.prompts) >= self.limit:
            self.blocked.set()
            await asyncio.Event().wait()
        self.prompts.append(str(call.prompt))
        yield Chunk(
            text="1",
            token_ids=(1,),
            token_texts=("1",),
            text_offsets=(0,),
            logprobs=(0.0,),
            top_logprobs=((),),
            prompt_tokens=1,
            finish_reason="stop",
        )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def installation(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Installation]:
    """Servers with texts to go on from."""
    built = Installation.build(tmp_path, clock=clock)
    texts = built.data / "data" / "texts" / "devtest"
    texts.mkdir(parents=True)
    (texts / "en.txt").write_text("".join(f"The text number {number}\n" for number in range(TEXTS)))
    yield replace(built, catalog=replace(built.catalog, data=built.data / "data"))
    built.store.close()


@pytest.fixture
async def sweep(installation: Installation) -> SweepRecord:
    """A completed sweep."""
    sweep = installation.submit(**GENERATION)
    async with installation.pool() as pool:
        dispatcher = installation.dispatcher(pool)
        await drain(
            installation,
            dispatcher,
            until=lambda: installation.store.get_sweep(sweep.id).state is SweepState.COMPLETED,
        )
    return installation.store.get_sweep(sweep.id)


async def begin(service: LeasedEvaluationService, sweep: SweepRecord, judge: StubJudge) -> None:
    """Let a server lease an evaluation, and wait until its judge is asked for a rating that it never gives."""
    await service.submit(sweep, RELEVANCE)
    await service.poll_once()
    async with asyncio.timeout(10):
        await judge.blocked.wait()


async def kill(service: LeasedEvaluationService, monkeypatch: pytest.MonkeyPatch) -> None:
    """End a server that cannot tell the store so."""
    with monkeypatch.context() as patched:
        patched.setattr(service.evaluations, "release", lambda lease: False)
        await service.stop()


def record_of(installation: Installation, sweep: SweepRecord) -> EvaluationRecord:
    (record,) = installation.sql_store.evaluations.of_sweep(sweep.id)
    return record


async def test_another_server_takes_over_from_a_killed_one_and_asks_for_no_rating_twice(
    installation: Installation, sweep: SweepRecord, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rated = 5
    judges = StubJudge(limit=rated), StubJudge()
    killed, other = (
        installation.evaluation_service(judge, owner=owner, ttl=TTL)
        for judge, owner in zip(judges, ("killed", "other"), strict=True)
    )
    await begin(killed, sweep, judges[0])
    await other.poll_once()
    await other.idle()
    assert judges[1].prompts == [], "the evaluation is computed twice at once"
    await kill(killed, monkeypatch)
    clock.time += TTL - 1
    await other.poll_once()
    assert record_of(installation, sweep).state is EvaluationState.IN_PROGRESS
    clock.time += 1
    await other.poll_once()
    await other.idle()
    record = record_of(installation, sweep)
    assert (record.state, record.epoch, record.error) == (EvaluationState.COMPLETED, 2, None)
    assert record.groups is not None
    assert {group["relevance"] for group in record.groups} == {0.5}
    prompts = [*judges[0].prompts, *judges[1].prompts]
    assert len(judges[0].prompts) == rated
    assert len(prompts) == len(set(prompts))
    assert installation.results.scores.of(record).stat().size > 0


async def test_a_server_that_was_presumed_dead_changes_nothing(
    installation: Installation, sweep: SweepRecord, clock: ManualClock
) -> None:
    judge = StubJudge(limit=0)
    slow, other = (
        installation.evaluation_service(completions, owner=owner, ttl=TTL)
        for completions, owner in ((judge, "slow"), (StubJudge(), "other"))
    )
    await begin(slow, sweep, judge)
    clock.time += TTL
    await other.poll_once()
    await other.idle()
    completed = record_of(installation, sweep)
    assert completed.state is EvaluationState.COMPLETED
    await slow.heartbeat()
    await slow.idle()
    assert record_of(installation, sweep) == completed


async def test_heartbeats_keep_the_lease_and_a_stopped_server_returns_it(
    installation: Installation, sweep: SweepRecord, clock: ManualClock
) -> None:
    judge = StubJudge(limit=0)
    first, second = (
        installation.evaluation_service(completions, owner=owner, ttl=TTL)
        for completions, owner in ((judge, "first"), (StubJudge(), "second"))
    )
    await begin(first, sweep, judge)
    clock.time += TTL - 1
    await first.heartbeat()
    clock.time += TTL - 1
    await second.poll_once()
    assert record_of(installation, sweep).epoch == 1
    await first.stop()
    assert record_of(installation, sweep).state is EvaluationState.QUEUED
    await second.poll_once()
    await second.idle()
    assert record_of(installation, sweep).state is EvaluationState.COMPLETED


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unavailable("no engine of model tiny is ready"), "no engine of model tiny is ready"),
        (RuntimeError("can't start new thread"), "no further thread or process can be started"),
    ],
)
async def test_an_evaluation_waits_for_a_judge_that_cannot_be_reached(
    installation: Installation, sweep: SweepRecord, clock: ManualClock, error: Exception, reason: str
) -> None:
    judge = StubJudge()
    judge.error = error
    service = installation.evaluation_service(judge, ttl=TTL)
    await service.submit(sweep, RELEVANCE)
    await service.poll_once()
    await service.idle()
    waiting = record_of(installation, sweep)
    assert waiting.state is EvaluationState.QUEUED
    assert str(waiting.error).startswith(reason)
    judge.error = None
    await service.poll_once()
    assert record_of(installation, sweep).epoch == 1
    clock.time += RETRY_SECONDS
    await service.poll_once()
    await service.idle()
    assert record_of(installation, sweep).state is EvaluationState.COMPLETED


async def test_another_error_fails_it_with_the_reason(installation: Installation, sweep: SweepRecord) -> None:
    judge = StubJudge()
    judge.error = EngineLost("the engine died")
    service = installation.evaluation_service(judge, ttl=TTL)
    await service.submit(sweep, RELEVANCE)
    await service.poll_once()
    await service.idle()
    failed = record_of(installation, sweep)
    assert (failed.state, failed.error) == (EvaluationState.FAILED, "the engine died")


async def test_an_evaluation_is_aborted_when_the_results_of_its_sweep_are_gone(
    installation: Installation, sweep: SweepRecord, clock: ManualClock
) -> None:
    judge = StubJudge(limit=0)
    service = installation.evaluation_service(judge, ttl=TTL)
    await begin(service, sweep, judge)
    clock.time += 1
    installation.store.expire_results(clock.time)
    await service.heartbeat()
    await service.idle()
    await service.poll_once()
    await service.idle()
    assert installation.sql_store.evaluations.delete_expired() == 1


async def test_its_loops_lease_what_is_submitted(installation: Installation, sweep: SweepRecord) -> None:
    judge = StubJudge(limit=0)
    service = installation.evaluation_service(judge, ttl=TTL, poll=60.0)
    service.start()
    await service.submit(sweep, RELEVANCE)
    async with asyncio.timeout(30):
        await judge.blocked.wait()
    assert record_of(installation, sweep).state is EvaluationState.IN_PROGRESS
    await service.stop()
    assert record_of(installation, sweep).state is EvaluationState.QUEUED


async def test_a_judge_without_a_chat_template_is_rejected_at_once(
    installation: Installation, sweep: SweepRecord
) -> None:
    real = replace(installation, catalog=replace(installation.catalog, engine="transformers"))
    service = real.evaluation_service(StubJudge(), owner="one", ttl=TTL)
    with pytest.raises(InvalidRequest, match="no chat template") as raised:
        await service.submit(sweep, RELEVANCE)
    assert raised.value.param == "judge.model"
    (real.catalog.models["tiny"] / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    assert (await service.submit(sweep, RELEVANCE)).state is EvaluationState.QUEUED
