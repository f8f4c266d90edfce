"""Checks, from the files of a model, that it can be asked as a sweep asks it."""

from __future__ import annotations

from ampsweep.domain.text_parts import has_harmony, no_parts, thinking_pair
from ampsweep.errors import InvalidRequest
from ampsweep.folders.model import supports_chat
from ampsweep.folders.vocabulary import read_vocabulary
from jobs.planning.catalog import Catalog
from jobs.spec.sweep import SweepSpec


def require_support(spec: SweepSpec, catalog: Catalog) -> None:
    """Check that the model has a chat template for tasks with `chat`, and the parts that `part` names.

    The fake engine chats without a template. A model whose vocabulary cannot be read here is not refused.

    Raises:
        InvalidRequest: It has none (param "tasks.0.chat" or "interventions.part").
    """
    folder = catalog.model_path(spec.model)
    chats = [index for index, task in enumerate(spec.tasks) if task.chat]
    if chats and catalog.engine != "fake" and not supports_chat(folder):
        message = f"model {spec.model} has no chat template; leave chat out, or use a model that was trained for chats"
        raise InvalidRequest(message, param=f"tasks.{chats[0]}.chat")
    if not any(spec.interventions.part or ()):
        return
    vocabulary = read_vocabulary(folder)
    if vocabulary is not None and thinking_pair(vocabulary) is None and not has_harmony(vocabulary):
        raise InvalidRequest(no_parts(), param="interventions.part")
