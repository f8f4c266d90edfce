"""The metrics of `ampsweep evaluate`, made from its options."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ampsweep.cli.options.engine import SHORT_JOB, model_folder
from ampsweep.cli.options.local_engine import EngineOptions
from ampsweep.cli.terminal.progress import ProgressDisplay
from ampsweep.client.environment import API_KEY
from ampsweep.domain.choices import one_of
from ampsweep.errors import InvalidRequest, UnknownName

if TYPE_CHECKING:
    from jobs.evaluation.metric import TextMetric

JUDGE_API_KEY = "AMPSWEEP_JUDGE_API_KEY"
RATINGS = "judge-ratings.db"
"""The file with a judge's ratings, beside the first file that is evaluated."""
METRIC_NAMES = ("language_confusion", "lfs", "script", "relevance", "answer_nll", "comet", "metricx", "metricx_qe")
_WITH_ENGINE = "answer_nll"
_NEEDS: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("relevance", "answer_nll", "comet", "metricx_qe"), ("input",)),
    "metricx": ("input", "reference"),
}
_USED_BY: Mapping[str, Sequence[str]] = {
    "english_words": ("language_confusion",),
    **dict.fromkeys(("judge_model", "judge_url", "ratings"), ("relevance",)),
    "nll_model": ("answer_nll",),
    "comet_model": ("comet",),
    **dict.fromkeys(("metricx_model", "metricx_tokenizer"), ("metricx", "metricx_qe")),
    "input": ("relevance", "answer_nll", "comet", "metricx", "metricx_qe"),
    "reference": ("comet", "metricx"),
}
"""The metrics that read an option."""


@dataclass(frozen=True, kw_only=True)
class MetricOptions:
    """The options that metrics are made from; see the help of `ampsweep evaluate`."""

    identifier: str
    english_words: Path | None
    server: str
    judge_url: str | None
    judge_model: str | None
    judge_concurrency: int
    ratings: Path
    nll_model: str | None
    engine: EngineOptions
    comet_model: str | None
    metricx_model: str | None
    metricx_tokenizer: str | None


def check_metrics(names: Sequence[str], options: MetricOptions) -> None:
    """Check metrics and their options before anything is read.

    Raises:
        UnknownName: There is no such metric.
        InvalidRequest: A metric is named twice, or an option that it needs is missing.
    """
    for name in names:
        if name not in METRIC_NAMES:
            raise UnknownName("metric", name, METRIC_NAMES, param="metric")
    if not names or len(set(names)) < len(names):
        raise InvalidRequest("must name at least one metric, each once", param="metric")
    needed = {
        "relevance": ("judge-model", options.judge_model, "the name of the judge"),
        "answer_nll": ("nll-model", options.nll_model, "the model folder of the unsteered model"),
        "comet": ("comet-model", options.comet_model, "a checkpoint, or a model in the local cache of the Hub"),
        "metricx": ("metricx-model", options.metricx_model, "the folder of a MetricX-24 model"),
        "metricx_qe": ("metricx-model", options.metricx_model, "the folder of a MetricX-24 model"),
    }
    for name in names:
        param, value, what = needed.get(name, ("", "", ""))
        if value is None:
            raise InvalidRequest(f"metric {name} needs --{param}: {what}", param=param)
    if _WITH_ENGINE in names:
        model_folder(options.nll_model or "", param="nll_model")
    if options.english_words is not None and not options.english_words.is_file():
        raise InvalidRequest(f"there is no file {options.english_words}", param="english-words")


def check_used(names: Sequence[str], given: Mapping[str, object]) -> None:
    """Raise InvalidRequest for an option that none of the metrics reads, unless its value is None."""
    for option, value in given.items():
        if value is not None and not set(_USED_BY[option]) & set(names):
            message = f"has no effect without --metric {one_of(_USED_BY[option])}; leave it out, or add the metric"
            raise InvalidRequest(message, param=option)


@asynccontextmanager
async def opened_metrics(names: Sequence[str], options: MetricOptions) -> AsyncIterator[list[TextMetric]]:
    """Open metrics, of names that `check_metrics` accepted; close their connections at the end of the block."""
    async with AsyncExitStack() as opened:
        slowest_last = sorted(names, key=lambda name: name == _WITH_ENGINE)
        metrics = {name: await _opened(name, options, opened) for name in slowest_last}
        yield [metrics[name] for name in names]


def needed_columns(names: Sequence[str]) -> frozenset[str]:
    """Return the columns that metrics are known to need before they are opened; models of COMET may need more."""
    return frozenset[str]().union(*(_NEEDS.get(name, ()) for name in names))


async def _opened(name: str, options: MetricOptions, opened: AsyncExitStack) -> TextMetric:
    match name:
        case "relevance":
            return await _relevance(options, opened)
        case "answer_nll":
            return await _likelihood(options, opened)
        case "comet":
            from worker.evaluation.comet import Comet

            return Comet(options.comet_model or "")
        case "metricx" | "metricx_qe":
            from worker.evaluation.metricx import MetricX

            with_reference = name == "metricx"
            return MetricX(
                options.metricx_model or "", tokenizer=options.metricx_tokenizer, with_reference=with_reference
            )
        case _:
            return _language_metric(name, options)


def _language_metric(name: str, options: MetricOptions) -> TextMetric:
    from ampsweep.folders.text import read_lines
    from jobs.evaluation.language_metrics import LANGUAGE_METRICS
    from jobs.language_control.identifiers import open_identifier
    from jobs.language_control.language_confusion import english_word_list

    words = None
    if options.english_words is not None:
        words = english_word_list("\n".join(read_lines(options.english_words)))
    return LANGUAGE_METRICS[name](open_identifier(options.identifier), words)


async def _likelihood(options: MetricOptions, opened: AsyncExitStack) -> TextMetric:
    from worker.evaluation.likelihood import AnswerLikelihood

    opening = options.engine.opened(
        options.nll_model or "", neurons=None, adapters={}, requests=SHORT_JOB + 1, as_json=True
    )
    engine = await opened.enter_async_context(opening)
    display = opened.enter_context(ProgressDisplay("answer_nll"))
    return AnswerLikelihood(engine, on_progress=display.show)


async def _relevance(options: MetricOptions, opened: AsyncExitStack) -> TextMetric:
    from ampsweep.client.chat_endpoint import ChatEndpoint
    from jobs.evaluation.judge import MAX_TOKENS
    from jobs.evaluation.rating_store import RatingFile
    from jobs.evaluation.relevance import Relevance

    url = options.judge_url or f"{options.server.rstrip('/')}/v1"
    variable = JUDGE_API_KEY if options.judge_url else API_KEY  # the key of a server never goes to another host
    judge = ChatEndpoint(
        url,
        options.judge_model or "",
        api_key=os.environ.get(variable, "").strip(),
        key_variable=variable,
        max_tokens=MAX_TOKENS,
    )
    await opened.enter_async_context(judge)
    display = opened.enter_context(ProgressDisplay("relevance", "ratings"))
    return Relevance(
        judge=judge,
        ratings=RatingFile(options.ratings),
        concurrency=options.judge_concurrency,
        on_progress=display.show,
    )
