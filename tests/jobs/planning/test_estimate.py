"""What a sweep costs, compared with what it did cost once it was run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from ampsweep.errors import SweepTooLarge
from jobs.planning.estimate import Estimator, SweepEstimate
from jobs.planning.token_counts import count_tokens
from jobs.spec.sweep import parse_spec
from jobs.tasks.requests import GenerateCall, ScoreCall
from tests.worker.installation import SPEC, Installation, drain

pytestmark = pytest.mark.anyio


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation.build(tmp_path)


def write_tokenizer(folder: Path, *, fixed_length: int | None = None) -> None:
    """Write a tokenizer for which every word is a token. With a fixed length, its file asks for padding and truncation.

    Some publishers of models leave such settings in their files.
    """
    tokenizer = Tokenizer(WordLevel({"<unk>": 0}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    if fixed_length is not None:
        tokenizer.enable_padding(length=fixed_length)
        tokenizer.enable_truncation(fixed_length)
    tokenizer.save(str(folder / "tokenizer.json"))


def estimated(installation: Installation, **changes: Any) -> SweepEstimate:
    return installation.estimator().estimate(parse_spec({**SPEC, **changes}))


async def run(installation: Installation, **changes: Any) -> list[dict[str, Any]]:
    """Run a sweep to its end and return its samples."""
    sweep = installation.submit(**changes)
    async with installation.pool() as pool:
        dispatcher = installation.dispatcher(pool)
        await drain(
            installation, dispatcher, until=lambda: installation.store.get_sweep(sweep.id).state.value == "completed"
        )
    with installation.results.samples_file(installation.store.get_sweep(sweep.id)).open() as file:
        return list(pq.read_table(file).to_pylist())


async def test_the_estimate_is_what_the_sweep_costs(installation: Installation) -> None:
    estimate = estimated(installation)
    (task,) = estimate.tasks
    samples = await run(installation)
    assert (task.task, task.reused, estimate.name, estimate.model) == ("lss", 0, "first-look", "tiny")
    assert task.cells == len({sample["cell_id"] for sample in samples})
    assert task.items == len(samples)
    assert task.requests == sum(len(sample["call_tokens"]) for sample in samples)
    assert task.max_new_tokens == 0, "nothing is generated"
    assert estimate.memory_bytes == 3 * 2**30


async def test_cells_that_are_computed_cost_nothing(installation: Installation) -> None:
    await run(installation)
    again = estimated(installation)
    assert again.total("cells") == again.total("reused") == 10
    assert (again.total("items"), again.total("requests"), again.seconds) == (0, 0, 0.0)
    assert again.seconds_from == "all cells are computed already"
    interventions = {**SPEC["interventions"], "factors": [0.5, 2.0, 4.0]}
    more = estimated(installation, interventions=interventions)
    assert more.total("reused") == again.total("cells")
    items = more.total("items")
    assert items is not None
    assert more.seconds is not None
    assert "earlier sweep of this model here" in more.seconds_from
    rate = float(more.seconds_from.rpartition("(")[2].split()[0])
    assert more.seconds == pytest.approx(items / rate, rel=0.1)


async def test_the_neurons_come_on_top_until_they_are_found(installation: Installation) -> None:
    assert any("the neurons are found first" in note for note in estimated(installation).notes)
    await run(installation)
    assert not any("neurons" in note for note in estimated(installation).notes)


def test_nothing_is_known_about_the_time_of_a_first_sweep(installation: Installation) -> None:
    estimate = estimated(installation)
    assert (estimate.seconds, estimate.seconds_from) == (
        None,
        "no sweep of this model with these tasks has been run here",
    )


def test_a_measured_rate_is_taken_before_earlier_sweeps(installation: Installation) -> None:
    estimate = installation.estimator().estimate(parse_spec(SPEC), measured={"lss": 2.0})
    assert (estimate.seconds, estimate.seconds_from) == (
        (estimate.total("items") or 0) / 2,
        "a measurement on the engine",
    )
    other = installation.estimator().estimate(parse_spec(SPEC), measured={"xcopa": 2.0})
    assert other.seconds is None


def test_tokens_are_counted_with_the_models_tokenizer(installation: Installation) -> None:
    assert estimated(installation).total("prompt_tokens") is None
    assert any("the tokens cannot be counted" in note for note in estimated(installation).notes)
    model = Path(shutil.copytree(installation.catalog.models["tiny"], installation.data / "with-tokenizer"))
    write_tokenizer(model)
    counted = replace(installation, catalog=replace(installation.catalog, models={"tiny": model}))
    estimator = counted.estimator()
    words = sum(
        len((f"{call.context}{call.continuation}").split())
        for items in estimator.baselines(parse_spec(SPEC)).values()
        for calls in items
        for call in calls
        if isinstance(call, ScoreCall)
    )
    baselines = 2  # one for each target language; each has two factors, and two of random neurons
    per_cell = words // baselines
    assert words % baselines == 0
    assert estimated(counted).total("prompt_tokens") == per_cell * baselines * 5


def test_generated_tokens_are_counted_at_most(installation: Installation) -> None:
    (installation.data / "data" / "prompts" / "test").mkdir(parents=True)
    (installation.data / "data" / "prompts" / "test" / "en.txt").write_text("Tell me a story.\nAnd one more.\n")
    catalog = replace(installation.catalog, data=installation.data / "data")
    tasks = [{"name": "generation", "data": "prompts", "split": "test", "languages": ["en"], "max_tokens": 7}]
    estimator = Estimator(catalog, installation.neuron_sets)
    estimate = estimator.estimate(parse_spec({**SPEC, "tasks": tasks}))
    assert estimate.total("max_new_tokens") == 7 * 2 * (estimate.total("cells") or 0) > 0


def test_a_sweep_that_is_too_large_is_refused_as_when_it_is_submitted(installation: Installation) -> None:
    with pytest.raises(SweepTooLarge, match="the maximum is 3"):
        installation.estimator().estimate(parse_spec(SPEC), max_cells=3)


@pytest.mark.parametrize("fixed_length", [None, 3, 6])
def test_the_parts_of_an_item_are_read_once_each(tmp_path: Path, fixed_length: int | None) -> None:
    write_tokenizer(tmp_path, fixed_length=fixed_length)
    score = ScoreCall(context="one two", continuation=" three four five")
    generate = GenerateCall(prompt="one two three", max_tokens=100)
    assert count_tokens(tmp_path, [score, generate]) == 5 + 3
