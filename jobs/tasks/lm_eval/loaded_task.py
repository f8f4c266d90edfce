"""Loads a task of lm-eval and builds its requests. The result is cached and must not be changed."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from ampsweep.domain.generation.prompt import ChatMessage
from ampsweep.errors import InvalidRequest
from ampsweep.hashing import content_hash
from jobs.tasks.lm_eval.loading_errors import loading_error
from jobs.tasks.lm_eval.names import bundled_folder, code_hash, yaml_of

RANDOM_SEED, NUMPY_SEED, FEWSHOT_SEED = 0, 1234, 1234
"""Seeds of Python's and of NumPy's random numbers and of the few-shot examples: the defaults of `simple_evaluate`."""
_seeding = Lock()
_CHAT = "\x02chat\x03"
"""Prefix of a chat as JSON, which takes the place of the text that lm-eval expects from a chat template."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedTask:
    """A task of lm-eval with its documents and requests.

    Attributes:
        task: The task object of lm-eval.
        docs: The documents by number.
        requests: The requests (lm-eval's `Instance`) of each document, in order.
        measures: The name of each metric with the name of its aggregation, empty for a function of the task's own.
        hash: Hash of the requests, the documents, lm-eval's version and the task's files.
    """

    task: Any
    docs: Mapping[int, Any]
    requests: Mapping[int, Sequence[Any]]
    measures: tuple[tuple[str, str], ...]
    hash: str


def load(name: str, folder: Path, *, limit: int | None, chat: bool) -> LoadedTask:
    """Load a task and build the requests of its first `limit` documents.

    Args:
        name: The task's name in lm-eval.
        folder: The server's folder of tasks.
        limit: Number of documents; None for all.
        chat: Whether to ask in the form of a chat.

    Raises:
        UnknownName: There is no such task.
        InvalidRequest: The task's data cannot be loaded, or the task needs something that sweeps do not support:
            images or audio, sampled answers, or running code that the model writes.
        DataUnavailable: The Hub cannot be reached.
    """
    path = yaml_of(name, folder)
    return _load_cached(name, path, code_hash([path.parent]), limit, chat)


@lru_cache(maxsize=64)
def _load_cached(name: str, path: Path, files: str, limit: int | None, chat: bool) -> LoadedTask:
    with seeded_random():
        return prepare(
            _load(name, path), files if not path.is_relative_to(bundled_folder()) else "", limit=limit, chat=chat
        )


@contextmanager
def seeded_random() -> Iterator[None]:
    """Seed the global random numbers as lm-eval's `simple_evaluate` does, and restore their state at the end.

    Some tasks draw from them while their documents are built: GPQA shuffles its options. All processes must build the
    same documents, because their hash is part of a cell's id. One thread at a time builds any.
    """
    with _seeding:
        state, numpy_state = random.getstate(), np.random.get_state()
        random.seed(RANDOM_SEED)
        np.random.seed(NUMPY_SEED)
        try:
            yield
        finally:
            random.setstate(state)
            np.random.set_state(numpy_state)


def prepare(task: Any, files: str, *, limit: int | None, chat: bool) -> LoadedTask:
    """Build the requests of the first `limit` documents of lm-eval's task object.

    Args:
        task: The task object.
        files: Hash of the task's files; empty for a task that comes with lm-eval.
        limit: Number of documents; None for all.
        chat: Whether to ask in the form of a chat.

    Raises:
        InvalidRequest: As `load`.
    """
    name = task.config.task
    _require_supported(task)
    task.set_fewshot_seed(FEWSHOT_SEED)
    try:
        task.build_all_requests(
            limit=limit, apply_chat_template=chat, fewshot_as_multiturn=chat, chat_template=_as_text if chat else None
        )
    except Exception as error:  # templates and functions of a task can raise anything
        raise InvalidRequest(f"lm-eval could not build the requests of {name}: {error}", param="name") from error
    docs = dict(task.doc_iterator(limit=limit))
    requests: dict[int, list[Any]] = defaultdict(list)
    for instance in task.instances:
        requests[instance.doc_id].append(instance)
    content = {
        "lm_eval": metadata.version("lm_eval"),
        "files": files,
        "requests": [[instance.doc_id, instance.request_type, repr(instance.arguments)] for instance in task.instances],
        "docs": [json.dumps(doc, default=str, sort_keys=True) for doc in docs.values()],
    }
    return LoadedTask(
        task=task,
        docs=docs,
        requests={doc: sorted(instances, key=lambda instance: instance.idx) for doc, instances in requests.items()},
        measures=_measures(task),
        hash=content_hash(content, length=64),
    )


def decode_context(context: str) -> str | tuple[ChatMessage, ...]:
    """Return the chat that a context of a request encodes, or the context itself if it is plain text."""
    if not context.startswith(_CHAT):
        return context
    return tuple(ChatMessage(**message) for message in json.loads(context.removeprefix(_CHAT)))


def _as_text(messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
    if not add_generation_prompt:
        raise ValueError("it starts the model's answer (gen_prefix), which is not supported in chats; leave chat out")
    return _CHAT + json.dumps(messages)


def _load(name: str, path: Path) -> Any:
    from lm_eval.tasks import TaskManager

    try:
        manager = TaskManager(include_path=str(path.parent), include_defaults=False)
        return manager.load(name)["tasks"][name]
    except Exception as error:  # templates, functions and data of a task can raise anything
        raise loading_error(name, error) from error


def _require_supported(task: Any) -> None:
    reason = None
    if getattr(task, "MULTIMODAL", False):
        reason = "needs images or audio"
    elif getattr(task, "UNSAFE_CODE", False):
        reason = "runs code that the model writes"
    elif task.OUTPUT_TYPE == "generate_until":
        options = task.config.generation_kwargs or {}
        if options.get("do_sample") or options.get("temperature") or options.get("num_beams", 1) > 1:
            reason = "needs sampling or beam search; only greedy answers are supported"
    if reason is not None:
        raise InvalidRequest(f"the task {task.config.task} {reason}", param="name")


def _measures(task: Any) -> tuple[tuple[str, str], ...]:
    from lm_eval.api.registry import AGGREGATION_REGISTRY

    registered = {function: name for name, function in AGGREGATION_REGISTRY.items()}
    return tuple(
        (measure_name(metric, pipeline.name), registered.get(function, ""))
        for pipeline in task._filters  # noqa: SLF001  # lm-eval has no public name for them
        for metric, function in task.aggregation().items()
    )


def measure_name(metric: str, pipeline: str) -> str:
    """Return the name of a metric over the answers that passed through a pipeline of filters."""
    return metric if pipeline == "none" else f"{metric},{pipeline}"
