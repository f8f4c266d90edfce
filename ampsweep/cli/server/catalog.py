"""The catalog that settings describe: the models, corpora and data of a server, or of a command on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ampsweep.bundled import ATLAS_FOLDER
from ampsweep.cli.server.engine_specs import release_warnings
from ampsweep.cli.server.settings import Settings
from ampsweep.errors import InvalidRequest
from jobs.data.hub import HubData
from jobs.planning.catalog import Catalog


def catalog_of(settings: Settings, *, local_models: bool = False) -> Catalog:
    """Return the catalog of models, corpora and data; with `local_models` a model may also be given as a folder."""
    return Catalog(
        models={name: model.path.resolve() for name, model in settings.served().items()},
        corpora=settings.all_corpora(),
        atlas=ATLAS_FOLDER,
        data=settings.data,
        hub=HubData(cache=_hub_cache(settings), mirror=settings.hub_mirror) if settings.hub else None,
        lm_eval=settings.lm_eval_tasks,
        engine=settings.engine,
        dtype=settings.dtype,
        batch_invariant=settings.batch_invariant,
        adapters={name: model.lora for name, model in settings.served().items() if model.lora},
        warnings=release_warnings(settings.engine, allowed=settings.allow_untested_vllm),
        local_models=local_models,
    )


def _hub_cache(settings: Settings) -> Path:
    try:
        return settings.hub_cache.expanduser()
    except RuntimeError as error:
        message = f"the folder {settings.hub_cache} is unknown because this user has no home"
        raise InvalidRequest(f"{message}; set HOME, or AMPSWEEP_HUB_CACHE to a folder", param="hub_cache") from error


def local_catalog(settings: Settings, *, model: str) -> Catalog:
    """Return the catalog for one sweep on this machine, whose model may be a folder and has all adapters."""
    return replace(catalog_of(settings, local_models=True), adapters={model: settings.lora})
