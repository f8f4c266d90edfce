"""`lm_eval:NAME`: a task of lm-eval as a task of a sweep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ampsweep.errors import InvalidRequest
from jobs.cell import TaskRef
from jobs.metrics.base import Metric
from jobs.metrics.lm_eval import LmEvalMetric
from jobs.sample import Sample
from jobs.tasks.base import Item, ItemSet
from jobs.tasks.lm_eval.loaded_task import LoadedTask, load, measure_name, turns_of
from jobs.tasks.lm_eval.names import for_language, languages_of
from jobs.tasks.requests import Answer, Call, GenerateCall, ScoreCall
from jobs.tasks.scoring import failed_sample, scored_sample

PREFIX = "lm_eval:"
NEW_TOKENS = 256
"""Tokens of an answer, at most, where a task does not say: lm-eval's own."""
MOVED_TOKENS = 8
"""Tokens, at most, of the white space that moves from the end of a context to what is scored."""

WRONG_QUESTIONS = {"id": 4, "it": 4, "sw": 37, "th": 250, "tr": 51}
"""Of XCOPA's test items, how many have a `question` in a language that those of most languages contradict."""


class LmEval:
    """One task of lm-eval, or with `{language}` or `{flores}` in its name one a language.

    Requests, filters, the verdict on each document and the aggregation are lm-eval's. `measures` of a sample is its
    verdict; `correct` is its `acc` or `exact_match`, where that is 0 or 1. Whether a continuation is what the model
    would have written, which lm-eval asks beside its log-probability, is found by letting it write.
    """

    version = 2
    needs_target_language = False
    supports_chat = True
    limit_draws = False
    default_data = "lm_eval"
    default_split = None

    def __init__(self, name: str, *, measures: tuple[tuple[str, str], ...] = ()) -> None:
        self.name = name
        self.metrics: tuple[Metric, ...] = tuple(LmEvalMetric(name=own, aggregation=how) for own, how in measures)

    def languages(self, folder: Path, split: str | None) -> frozenset[str]:
        """Return the languages that the name stands for."""
        del split
        return languages_of(self.name.removeprefix(PREFIX), folder)

    def resolve(self, folder: Path, ref: TaskRef) -> TaskRef:
        """Return a reference with the hash of all requests and documents, and the metrics there are."""
        if ref.data not in (None, self.default_data):
            raise InvalidRequest("a task of lm-eval brings its own data; leave data out", param="data")
        frozen = self._frozen(folder, ref)
        return replace(ref, data_hash=frozen.hash, measures=frozen.measures)

    def warnings(self, folder: Path, refs: Sequence[TaskRef]) -> list[str]:
        """Return what is known to be wrong with a task's data, which lm-eval asks as it is."""
        names = [for_language(self.name.removeprefix(PREFIX), ref.data_language, folder) for ref in refs]
        return [
            f"{PREFIX}{name}: {WRONG_QUESTIONS[language]} of XCOPA's 500 test items in this language ask for the cause "
            "where the effect is meant, or the other way round; the task xcopa asks the right question"
            for name in dict.fromkeys(names)
            if (language := name.removeprefix("xcopa_")) != name and language in WRONG_QUESTIONS
        ]

    def items(self, folder: Path, ref: TaskRef, *, seed: int) -> ItemSet:
        """Make an item of each of the first `limit` documents."""
        del seed
        frozen = self._frozen(folder, ref)
        return ItemSet(items=tuple(_item(frozen, doc) for doc in frozen.docs), left_out=0)

    def sample(self, item: Item, answers: Sequence[Answer]) -> Sample:
        """Return lm-eval's verdict on one document."""
        if (sample := failed_sample(item, answers)) is not None:
            return sample
        frozen, doc_id = item.meta["frozen"], item.meta["doc"]
        waiting = iter(answers)
        instances = []
        for request in frozen.requests[doc_id]:
            instance = copy(request)
            instance.filtered_resps = {}
            instance.resps = [_response(request, waiting, greedy=_asks_greedy(frozen.task))] * (request.repeats or 1)
            instances.append(instance)
        measures = _verdict(frozen, doc_id, instances)
        right = measures.get("acc", measures.get("exact_match"))
        generated = frozen.task.OUTPUT_TYPE == "generate_until"
        return scored_sample(
            item,
            answers,
            measures=json.dumps(measures, default=_plain),
            correct=bool(right) if right in (0, 1) else None,
            prediction=_prediction(instances),
            gold=str(frozen.task.doc_to_target(frozen.docs[doc_id])),
            completion=answers[0].text if generated else None,
        )

    def _frozen(self, folder: Path, ref: TaskRef) -> LoadedTask:
        name = for_language(self.name.removeprefix(PREFIX), ref.data_language, folder)
        return load(name, folder, limit=ref.limit, chat=ref.chat)


def _item(frozen: LoadedTask, doc_id: int) -> Item:
    greedy = _asks_greedy(frozen.task)
    calls = tuple(call for request in frozen.requests[doc_id] for call in _calls(request, greedy=greedy))
    return Item(doc_id=str(doc_id), calls=calls, meta={"frozen": frozen, "doc": doc_id})


def _calls(request: Any, *, greedy: bool) -> list[Call]:
    if request.request_type == "loglikelihood_rolling":
        return [ScoreCall(context="", continuation=request.args[0], split="lm_eval")]
    context = turns_of(request.args[0])
    if request.request_type == "generate_until":
        asked = request.args[1]
        until = asked.get("until") or ()
        stop = (until,) if isinstance(until, str) else tuple(until)
        return [GenerateCall(prompt=context, max_tokens=asked.get("max_gen_toks", NEW_TOKENS), stop=stop)]
    calls: list[Call] = [ScoreCall(context=context, continuation=request.args[1], split="lm_eval")]
    if greedy:
        length = len(request.args[1].encode()) + MOVED_TOKENS
        calls.append(GenerateCall(prompt=context, max_tokens=length, strip=True))
    return calls


def _response(request: Any, answers: Any, *, greedy: bool) -> Any:
    """Return what lm-eval's model would have answered: a text, a sum, or a sum and whether it is the greedy answer."""
    answer = next(answers)
    if request.request_type == "generate_until":
        return answer.text or ""
    total = float(sum(answer.logprobs))
    if request.request_type == "loglikelihood_rolling":
        return total
    return total, greedy and next(answers).token_ids[: len(answer.token_ids)] == answer.token_ids


def _asks_greedy(task: Any) -> bool:
    """Return whether a verdict looks at more than log-probabilities; a task's own function may."""
    if task.OUTPUT_TYPE not in ("loglikelihood", "multiple_choice"):
        return False
    if callable(task.config.process_results):
        return True
    return ("acc" if task.OUTPUT_TYPE == "loglikelihood" else "exact_match") in task.aggregation()


def _verdict(frozen: LoadedTask, doc_id: int, instances: list[Any]) -> dict[str, Any]:
    measures: dict[str, Any] = {}
    for pipeline in frozen.task._filters:  # noqa: SLF001  # lm-eval has no other name for them
        pipeline.apply(instances)
        kept = [instance.filtered_resps[pipeline.name] for instance in instances]
        for metric, value in frozen.task.process_results(frozen.docs[doc_id], kept).items():
            measures[measure_name(metric, pipeline.name)] = value
    return measures


def _prediction(instances: list[Any]) -> str | None:
    kept = [next(iter(instance.filtered_resps.values())) for instance in instances]
    if len(kept) == 1:
        return kept[0] if isinstance(kept[0], str) else None
    return str(int(np.argmax([one[0] for one in kept])))


def _plain(value: Any) -> Any:
    """Return NumPy's numbers and arrays as JSON has them."""
    return value.tolist()
