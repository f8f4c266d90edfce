"""A task of lm-eval with its requests made once, as lm-eval makes them. They are never changed after."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from ampsweep.domain.prompt import ChatMessage
from ampsweep.errors import InvalidRequest
from ampsweep.hashing import content_hash, files_hash
from jobs.tasks.lm_eval.names import bundled_folder, yaml_of

FEWSHOT_SEED = 1234
"""The seed of the examples in a prompt that `simple_evaluate` takes by default."""
_CHAT = "\x02chat\x03"  # before the JSON of a chat, where lm-eval expects the text that a template makes of it


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedTask:
    """lm-eval's task, its documents by number, and the requests (lm-eval's Instances) of each, in order.

    `measures` are the names of its metrics, each with its aggregation's ("" where that is a function of the task's).
    `hash` is over all that is asked and all that it is scored by.
    """

    task: Any
    docs: Mapping[int, Any]
    requests: Mapping[int, Sequence[Any]]
    measures: tuple[tuple[str, str], ...]
    hash: str


def load(name: str, folder: Path, *, limit: int | None, chat: bool) -> LoadedTask:
    """Load a task and make the requests of its first `limit` documents.

    Raises UnknownName where there is no such task; InvalidRequest where its data is out of reach, or it asks for what
    no sweep does: pictures, samples that are drawn, running what the model writes.
    """
    path = yaml_of(name, folder)
    own = files_hash([file for file in path.parent.rglob("*") if file.suffix in (".yaml", ".py")])
    return _freeze(name, path, own, limit, chat)


@lru_cache(maxsize=64)
def _freeze(name: str, path: Path, own: str, limit: int | None, chat: bool) -> LoadedTask:
    task = _load(name, path)
    _refuse(task)
    task.set_fewshot_seed(FEWSHOT_SEED)
    try:
        task.build_all_requests(
            limit=limit, apply_chat_template=chat, fewshot_as_multiturn=chat, chat_template=_as_text if chat else None
        )
    except Exception as error:  # a task's templates and functions raise what they like
        raise InvalidRequest(f"lm-eval could not make the requests of {name}: {error}", param="name") from error
    docs = dict(task.doc_iterator(limit=limit))
    requests: dict[int, list[Any]] = defaultdict(list)
    for instance in task.instances:
        requests[instance.doc_id].append(instance)
    content = {
        "lm_eval": metadata.version("lm_eval"),
        "files": own if not path.is_relative_to(bundled_folder()) else "",
        "requests": [[one.doc_id, one.request_type, repr(one.arguments)] for one in task.instances],
        "docs": [json.dumps(doc, default=str, sort_keys=True) for doc in docs.values()],
    }
    return LoadedTask(
        task=task,
        docs=docs,
        requests={doc: sorted(own, key=lambda one: one.idx) for doc, own in requests.items()},
        measures=_measures(task),
        hash=content_hash(content, length=64),
    )


def turns_of(context: str) -> str | tuple[ChatMessage, ...]:
    """Return the chat that a context stands for, or the context itself."""
    if not context.startswith(_CHAT):
        return context
    return tuple(ChatMessage(**message) for message in json.loads(context.removeprefix(_CHAT)))


def _as_text(messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
    if not add_generation_prompt:
        raise ValueError("it begins the model's answer (gen_prefix), which no chat here does; leave chat out")
    return _CHAT + json.dumps(messages)


def _load(name: str, path: Path) -> Any:
    from lm_eval.tasks import TaskManager

    try:
        manager = TaskManager(include_path=str(path.parent), include_defaults=False)
        return manager.load(name)["tasks"][name]
    except Exception as error:  # a task's templates, functions and data raise what they like
        raise InvalidRequest(f"lm-eval could not load {name}: {type(error).__name__}: {error}", param="name") from error


def _refuse(task: Any) -> None:
    wrong = None
    if getattr(task, "MULTIMODAL", False):
        wrong = "shows pictures or plays sounds"
    elif getattr(task, "UNSAFE_CODE", False):
        wrong = "runs what the model writes"
    elif task.OUTPUT_TYPE == "generate_until":
        asked = task.config.generation_kwargs or {}
        if asked.get("do_sample") or asked.get("temperature") or asked.get("num_beams", 1) > 1:
            wrong = "draws its answers or searches for them; here they are greedy"
    if wrong is not None:
        raise InvalidRequest(f"the task {task.config.task} {wrong}", param="name")


def _measures(task: Any) -> tuple[tuple[str, str], ...]:
    from lm_eval.api.registry import AGGREGATION_REGISTRY

    known = {function: name for name, function in AGGREGATION_REGISTRY.items()}
    return tuple(
        (measure_name(metric, pipeline.name), known.get(function, ""))
        for pipeline in task._filters  # noqa: SLF001  # lm-eval has no other name for them
        for metric, function in task.aggregation().items()
    )


def measure_name(metric: str, pipeline: str) -> str:
    """Return what a metric over the answers that a pipeline of filters let through is called."""
    return metric if pipeline == "none" else f"{metric},{pipeline}"
