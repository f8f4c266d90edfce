"""Lists what an installation offers to specs: models, corpora, data sets, tasks and languages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ampsweep.domain.languages.codes import FLORES_CODES
from ampsweep.domain.languages.names import english_name
from ampsweep.errors import AmpsweepError
from ampsweep.folders.corpus import corpus_languages
from jobs.data.hub_sources import SOURCES
from jobs.planning.catalog import Catalog
from jobs.plugins import installed_plugins
from jobs.tasks.registry import BUILT_IN_TASKS, releases_of, task_for

Offer = Mapping[str, Any]


def models(catalog: Catalog) -> list[Offer]:
    """Return the models, with their number of layers and their LoRA adapters."""
    offers: list[Offer] = []
    for name in sorted(catalog.models):
        layers = None
        with suppress(AmpsweepError):  # a damaged folder is reported when it is used
            layers = catalog.model(name).layers
        offers.append({"id": name, "layers": layers, "adapters": sorted(catalog.adapters.get(name, ()))})
    return offers


def corpora(catalog: Catalog) -> list[Offer]:
    """Return the corpora, with their languages."""
    offers: list[Offer] = []
    for name in sorted(catalog.corpora):
        languages: tuple[str, ...] = ()
        with suppress(AmpsweepError, OSError):
            languages = corpus_languages(catalog.corpora[name])
        offers.append({"id": name, "languages": list(languages)})
    return offers


def data_sets(catalog: Catalog) -> list[Offer]:
    """Return the data sets: those on this machine, and those that would be downloaded from the Hub."""
    local = catalog.data_sets()
    hub = set(SOURCES) if catalog.hub is not None else set()
    return [
        {"id": name, "local": name in local, "hub": SOURCES[name].repo if name in hub else None}
        for name in sorted({*local, *hub})
    ]


def tasks(catalog: Catalog) -> list[Offer]:
    """Return the tasks, with their metrics, and the languages of their default data where these are on this machine."""
    local = catalog.data_sets()
    offers: list[Offer] = []
    for name in [*BUILT_IN_TASKS, *sorted(installed_plugins("task"))]:
        with suppress(AmpsweepError):  # a plug-in that cannot be used is reported when it is named
            task = task_for(name)
            languages: list[str] | None = None
            if task.default_data in local:
                with suppress(AmpsweepError, OSError):
                    languages = sorted(task.languages(local[task.default_data], task.default_split))
            offers.append(
                {
                    "id": name,
                    "metrics": [metric.name for metric in task.metrics],
                    "data": task.default_data,
                    "needs_target_language": task.needs_target_language,
                    "supports_chat": task.supports_chat,
                    "languages": languages,
                    "plugins": list(releases_of(task)),
                }
            )
    return offers


def languages(catalog: Catalog) -> list[Offer]:
    """Return the languages that a corpus or the default data of a task has, with their names where they are known."""
    in_corpora, in_tasks = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for corpus in corpora(catalog):
        for code in corpus["languages"]:
            in_corpora[code].append(corpus["id"])
    for task in tasks(catalog):
        for code in task["languages"] or ():
            in_tasks[code].append(task["id"])
    return [
        {
            "id": code,
            "name": english_name(code),
            "flores": FLORES_CODES.get(code),
            "corpora": in_corpora.get(code, []),
            "tasks": in_tasks.get(code, []),
        }
        for code in sorted({*in_corpora, *in_tasks})
    ]


OFFERS: Mapping[str, Callable[[Catalog], list[Offer]]] = {
    "models": models,
    "corpora": corpora,
    "data-sets": data_sets,
    "tasks": tasks,
    "languages": languages,
}
"""The lists by name."""
