"""What the server offers to specs besides models: corpora, data sets, tasks and languages."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse

from api.http.json_body import json_response
from api.http.pagination import list_object
from api.services import Services, ServicesDep
from jobs.planning.offers import OFFERS

router = APIRouter(tags=["offers"])


@router.get("/corpora", response_model=dict[str, Any])
async def list_corpora(services: ServicesDep) -> JSONResponse:
    """List the corpora that neurons can be identified on, with their languages."""
    return await _listed(services, "corpora", "corpus")


@router.get("/data-sets", response_model=dict[str, Any])
async def list_data_sets(services: ServicesDep) -> JSONResponse:
    """List the data sets that tasks can use: `local` ones, and those that are downloaded from the `hub` when needed."""
    return await _listed(services, "data-sets", "data_set")


@router.get("/tasks", response_model=dict[str, Any])
async def list_tasks(services: ServicesDep) -> JSONResponse:
    """List the tasks with their metrics; `languages` are those of the default data, null if these are not here yet."""
    return await _listed(services, "tasks", "task")


@router.get("/languages", response_model=dict[str, Any])
async def list_languages(services: ServicesDep) -> JSONResponse:
    """List the languages that a corpus or the default data of a task has, with their English names where known."""
    return await _listed(services, "languages", "language")


async def _listed(services: Services, name: str, kind: str) -> JSONResponse:
    return await json_response(
        lambda: list_object([{"object": kind, **offer} for offer in OFFERS[name](services.catalog)])
    )
