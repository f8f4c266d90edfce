"""`lm_eval:NAME`: a task or a group of lm-eval as a task of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ampsweep.errors import InvalidRequest
from jobs.cell import TaskRef
from jobs.metrics.base import Metric
from jobs.metrics.lm_eval import measures_json
from jobs.metrics.lm_eval_group import lm_eval_metric
from jobs.sample import Sample
from jobs.tasks.base import Item, ItemSet
from jobs.tasks.lm_eval.loaded_group import LoadedGroup, load_group
from jobs.tasks.lm_eval.loaded_task import LoadedTask, decode_context, load, measure_name
from jobs.tasks.lm_eval.names import for_language, is_group, languages_of
from jobs.tasks.requests import Answer, Call, GenerateCall, ScoreCall
from jobs.tasks.scoring import failed_sample, scored_sample

PREFIX = "lm_eval:"
NEW_TOKENS = 256
"""Maximum number of tokens of an answer if the task does not set one, as in lm-eval."""
MOVED_TOKENS = 8
"""Maximum number of tokens of the white space that moves from the end of a context to the scored text."""

WRONG_QUESTIONS = {"id": 4, "it": 4, "sw": 37, "th": 250, "tr": 51}
"""Number of XCOPA's test items, by language, whose `question` differs from the one in most languages."""


class LmEval:
    """A task of lm-eval, or one for each language if its name contains `{language}` or `{flores}`.

    lm-eval makes the requests, filters the answers, scores the documents and aggregates the scores. `measures` of a
    sample are the scores of its document; `correct` is `acc` or `exact_match`, if that is 0 or 1. lm-eval also asks
    whether a continuation is the greedy answer of the model; to find out, the task generates the answer.

    The items of a group are those of its tasks, with ids `<task>/<number>`; a `limit` is that of each task.
    """

    version = 2
    needs_target_language = False
    supports_chat = True
    limit_draws = False
    default_data = "lm_eval"
    default_split = None

    def __init__(self, name: str, *, measures: tuple[tuple[str, str], ...] = ()) -> None:
        self.name = name
        self.metrics: tuple[Metric, ...] = tuple(
            lm_eval_metric(metric, aggregation) for metric, aggregation in measures
        )

    def languages(self, folder: Path, split: str | None) -> frozenset[str]:
        """Return the languages for which the name names a task."""
        del split
        return languages_of(self.name.removeprefix(PREFIX), folder)

    def resolve(self, folder: Path, ref: TaskRef) -> TaskRef:
        """Complete a reference with the hash of the requests and documents, and with the metrics of the task."""
        if ref.data not in (None, self.default_data):
            raise InvalidRequest("a task of lm-eval has its own data; leave data out", param="data")
        loaded = self._load(folder, ref)
        return replace(ref, data_hash=loaded.hash, measures=loaded.measures)

    def warnings(self, folder: Path, refs: Sequence[TaskRef]) -> list[str]:
        """Return known mistakes in the data, which lm-eval uses unchanged."""
        names = [name for ref in refs for name in self._task_names(folder, ref)]
        return [
            f"{PREFIX}{name}: {WRONG_QUESTIONS[language]} of XCOPA's 500 test items in this language ask for the cause "
            "instead of the effect, or the other way round; the task xcopa asks the right question"
            for name in dict.fromkeys(names)
            if (language := name.removeprefix("xcopa_")) != name and language in WRONG_QUESTIONS
        ]

    def items(self, folder: Path, ref: TaskRef, *, seed: int) -> ItemSet:
        """Make an item of each of the first `limit` documents, of each task if it is a group."""
        del seed
        loaded = self._load(folder, ref)
        if isinstance(loaded, LoadedTask):
            items = [_item(loaded, doc_id) for doc_id in loaded.docs]
        else:
            items = [_item(task, doc, prefix=f"{name}/") for name, task in loaded.tasks.items() for doc in task.docs]
        return ItemSet(items=tuple(items), left_out=0)

    def sample(self, item: Item, answers: Sequence[Answer]) -> Sample:
        """Return lm-eval's scores of one document."""
        if (sample := failed_sample(item, answers)) is not None:
            return sample
        loaded, doc_id = item.meta["loaded"], item.meta["doc"]
        remaining = iter(answers)
        instances = []
        for request in loaded.requests[doc_id]:
            instance = copy(request)
            instance.filtered_resps = {}
            response = _response(request, remaining, greedy=_needs_greedy(loaded.task))
            instance.resps = [response] * (request.repeats or 1)
            instances.append(instance)
        measures = _scores(loaded, doc_id, instances)
        accuracy = measures.get("acc", measures.get("exact_match"))
        generated = loaded.task.OUTPUT_TYPE == "generate_until"
        return scored_sample(
            item,
            answers,
            measures=measures_json(measures),
            correct=bool(accuracy) if accuracy in (0, 1) else None,
            prediction=_prediction(instances),
            gold=str(loaded.task.doc_to_target(loaded.docs[doc_id])),
            completion=answers[0].text if generated else None,
        )

    def _load(self, folder: Path, ref: TaskRef) -> LoadedTask | LoadedGroup:
        name = self._name(folder, ref)
        load_it = load_group if is_group(name, folder) else load
        return load_it(name, folder, limit=ref.limit, chat=ref.chat)

    def _name(self, folder: Path, ref: TaskRef) -> str:
        return for_language(self.name.removeprefix(PREFIX), ref.data_language, folder)

    def _task_names(self, folder: Path, ref: TaskRef) -> list[str]:
        name = self._name(folder, ref)
        if not is_group(name, folder):
            return [name]
        return list(load_group(name, folder, limit=ref.limit, chat=ref.chat).tasks)


def _item(loaded: LoadedTask, doc_id: int, *, prefix: str = "") -> Item:
    greedy = _needs_greedy(loaded.task)
    calls = tuple(call for request in loaded.requests[doc_id] for call in _calls(request, greedy=greedy))
    return Item(doc_id=f"{prefix}{doc_id}", calls=calls, meta={"loaded": loaded, "doc": doc_id})


def _calls(request: Any, *, greedy: bool) -> list[Call]:
    if request.request_type == "loglikelihood_rolling":
        return [ScoreCall(context="", continuation=request.args[0], split="lm_eval")]
    context = decode_context(request.args[0])
    if request.request_type == "generate_until":
        options = request.args[1]
        until = options.get("until") or ()
        stop = (until,) if isinstance(until, str) else tuple(until)
        return [GenerateCall(prompt=context, max_tokens=options.get("max_gen_toks", NEW_TOKENS), stop=stop)]
    calls: list[Call] = [ScoreCall(context=context, continuation=request.args[1], split="lm_eval")]
    if greedy:
        length = len(request.args[1].encode()) + MOVED_TOKENS
        calls.append(GenerateCall(prompt=context, max_tokens=length, strip=True))
    return calls


def _response(request: Any, answers: Any, *, greedy: bool) -> Any:
    """Return the response in the form that lm-eval expects from a model.

    It is a text, a sum of log-probabilities, or such a sum and whether the continuation is the greedy answer.
    """
    answer = next(answers)
    if request.request_type == "generate_until":
        return answer.text or ""
    total = float(sum(answer.logprobs))
    if request.request_type == "loglikelihood_rolling":
        return total
    return total, greedy and next(answers).token_ids[: len(answer.token_ids)] == answer.token_ids


def _needs_greedy(task: Any) -> bool:
    """Return whether the scores may depend on the greedy answer and not only on log-probabilities."""
    if task.OUTPUT_TYPE not in ("loglikelihood", "multiple_choice"):
        return False
    if callable(task.config.process_results):
        return True
    return ("acc" if task.OUTPUT_TYPE == "loglikelihood" else "exact_match") in task.aggregation()


def _scores(loaded: LoadedTask, doc_id: int, instances: list[Any]) -> dict[str, Any]:
    measures: dict[str, Any] = {}
    for pipeline in loaded.task._filters:  # noqa: SLF001  # lm-eval has no public name for them
        pipeline.apply(instances)
        responses = [instance.filtered_resps[pipeline.name] for instance in instances]
        for metric, value in loaded.task.process_results(loaded.docs[doc_id], responses).items():
            measures[measure_name(metric, pipeline.name)] = value
    return measures


def _prediction(instances: list[Any]) -> str | None:
    responses = [next(iter(instance.filtered_resps.values())) for instance in instances]
    if len(responses) == 1:
        return responses[0] if isinstance(responses[0], str) else None
    return str(int(np.argmax([response[0] for response in responses])))
