"""Files for batches: upload, list, show, download and delete them, in the schema of OpenAI's API."""

from __future__ import annotations

import asyncio
from typing import IO, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import Field
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ampsweep.documents import foreign_encoding
from ampsweep.domain.validation import StrictModel, validate
from ampsweep.errors import InvalidRequest
from api.auth.principal import CurrentPrincipal, Principal
from api.http.pagination import After, Limit, list_object
from api.http.range_response import file_response
from api.openai.route import OpenAIRoute
from api.services import Services, ServicesDep
from jobs.batches.files import BatchFiles
from jobs.batches.lines import BLOCK
from jobs.batches.records import FileRecord

JSON_LINES = "application/jsonl"
_FIELDS = 8
"""Maximum number of fields of a form besides the file."""
_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string", "enum": ["batch"]},
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": 3600},
    },
}

router = APIRouter(prefix="/files", tags=["batches"], route_class=OpenAIRoute)


class ExpiresAfter(StrictModel):
    """When a file is deleted: some seconds after it was created."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=10 * 365 * 86_400)]


class _Upload(StrictModel):
    purpose: Literal["batch"]
    expires_after: ExpiresAfter | None = None


@router.post(
    "",
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}},
)
async def create_file(services: ServicesDep, principal: CurrentPrincipal, request: Request) -> dict[str, Any]:
    """Upload a file of requests, one JSON object per line, for a batch."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise InvalidRequest("the body must be multipart/form-data with the fields file and purpose", param="file")
    if _charset(request) not in ("utf-8", "utf8"):  # some of Python's codecs fail on any name of a file
        raise InvalidRequest("the charset of the form must be utf-8; leave it out of Content-Type", param="file")
    try:
        async with request.form(max_files=1, max_fields=_FIELDS) as form:
            return await _create(services, principal, form)
    except HTTPException as error:
        if error.status_code != 400:  # the body is too large
            raise
        raise InvalidRequest(f"the form cannot be read: {error.detail}", param="file") from error


@router.get("")
async def list_files(
    services: ServicesDep,
    after: After = None,
    limit: Limit = 20,
    purpose: Annotated[str | None, Query(max_length=64, description="Only files with this purpose.")] = None,
) -> dict[str, Any]:
    """List the files, newest first."""
    files = services.batch_service.batches.files
    page = await asyncio.to_thread(lambda: files.list(after=after, limit=limit, purpose=purpose))
    return list_object(list(map(file_object, page.data)), has_more=page.has_more)


@router.get("/{file_id}")
async def get_file(services: ServicesDep, file_id: str) -> dict[str, Any]:
    """Return a file without its content."""
    return file_object(await asyncio.to_thread(services.batch_service.batches.files.get, file_id))


@router.get("/{file_id}/content", response_class=Response, responses={200: {"content": {JSON_LINES: {}}}})
async def get_file_content(services: ServicesDep, request: Request, file_id: str) -> Response:
    """Return the content of a file."""
    record = await asyncio.to_thread(services.batch_service.batches.files.get, file_id)
    stored = services.batch_service.files.stored(file_id)
    return await file_response(stored, request, media_type=JSON_LINES, filename=f"{record.id}.jsonl", in_ranges=False)


@router.delete("/{file_id}")
async def delete_file(services: ServicesDep, principal: CurrentPrincipal, file_id: str) -> dict[str, Any]:
    """Delete a file of the same API key. 409 while a batch reads it."""
    await asyncio.to_thread(_delete, services, principal, file_id)
    return {"id": file_id, "object": "file", "deleted": True}


def file_object(record: FileRecord) -> dict[str, Any]:
    """Return the JSON object of a file. Times are in seconds since the epoch."""
    return {
        "id": record.id,
        "object": "file",
        "bytes": record.bytes,
        "created_at": int(record.created_at),
        "expires_at": None if record.expires_at is None else int(record.expires_at),
        "filename": record.filename,
        "purpose": record.purpose,
        "status": "processed",
        "owner": record.owner,
    }


def _charset(request: Request) -> str:
    _, options = parse_options_header(request.headers["content-type"])
    return options.get(b"charset", b"utf-8").decode("latin-1").lower()


async def _create(services: Services, principal: Principal, form: FormData) -> dict[str, Any]:
    upload, file = _parsed(form)
    batches, contents = services.batch_service.batches, services.batch_service.files
    file_id = batches.files.new_id()
    size = await asyncio.to_thread(_save, contents, file_id, file.file)
    if not size:
        await asyncio.to_thread(contents.delete, file_id)
        raise InvalidRequest("the file is empty; write one request per line", param="file")
    record = await asyncio.to_thread(
        lambda: batches.files.add(
            file_id,
            owner=principal.id,
            filename=(file.filename or "").replace("\0", "")[:255],
            purpose=upload.purpose,
            size=size,
            expires_after=None if upload.expires_after is None else upload.expires_after.seconds,
        )
    )
    return file_object(record)


def _save(contents: BatchFiles, file_id: str, content: IO[bytes]) -> int:
    """Publish the content of a file, and return its size; raise InvalidRequest for text in another encoding."""
    first_line, *_ = content.read(BLOCK).split(b"\n", 1)
    content.seek(0)
    if foreign := foreign_encoding(first_line):
        message = f"the file is not UTF-8 text ({foreign}); save it as UTF-8, and upload it again"
        raise InvalidRequest(message, param="file")
    return contents.save(file_id, content)


def _parsed(form: FormData) -> tuple[_Upload, UploadFile]:
    """Return the fields of an upload and its file. OpenAI's clients send objects as `name[key]`."""
    fields: dict[str, Any] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            continue
        outer, bracket, inner = name.partition("[")
        target = fields.setdefault(outer, {}) if bracket else fields
        key = inner.removesuffix("]") if bracket else outer
        if not isinstance(target, dict) or key in target:
            raise InvalidRequest(f"{outer} is in the form twice; send it once", param=outer)
        target[key] = int(value) if key == "seconds" and value.isdecimal() and len(value) < 12 else value
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise InvalidRequest("file is required: the content of the file, with its name", param="file")
    return validate(_Upload, fields), file


def _delete(services: Services, principal: Principal, file_id: str) -> None:
    files = services.batch_service.batches.files
    principal.need_ownership(files.get(file_id).owner, f"file {file_id}")
    files.delete(file_id)
    services.batch_service.files.delete(file_id)
