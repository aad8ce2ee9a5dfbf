"""Bulk imports: accepting them, and telling how far they are."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from amodal.service.answers import PROBLEMS, answer, repeatable, serving
from amodal.service.house import Service
from amodal.service.imports import Lines, receive
from amodal.service.messages import Job, Jobs
from amodal.service.problems import Problem

__all__ = ["router"]

router = APIRouter(prefix="/v1/imports", responses=PROBLEMS, tags=["imports"])
JobId = Annotated[str, Path(max_length=64)]
_MEDIA_TYPE = "application/x-ndjson"
_BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Line"}}}}
}


@router.post("", status_code=202, response_model=Job, openapi_extra=_BODY)
async def accept(request: Request) -> Response:
    """Take items or deletions, one JSON object per line, and write them one after another."""
    service = serving(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _MEDIA_TYPE:
        raise Problem("wrong-media-type", f"send the lines as {_MEDIA_TYPE}.")
    if service.settings.readonly:
        raise Problem("not-supported", "this service was started to read only.")
    try:
        lines = await receive(service, request.stream())
    except ClientDisconnect:
        raise Problem("bad-request", "the connection ended before the body did; nothing was accepted.") from None
    repeat = repeatable(request, lines.digest)
    async with request.app.state.accepting:
        job = await asyncio.to_thread(_accepted, service, lines, repeat)
    request.app.state.importer.ring()
    return answer(job, 202, Location=f"/v1/imports/{job.job}")


def _accepted(service: Service, lines: Lines, repeat: Any) -> Job:
    """The new import; or the one that an earlier request with the same key has made."""
    earlier = repeat and service.ledger.repeat(repeat.caller, repeat.key, repeat.digest)
    if earlier:
        lines.path.unlink(missing_ok=True)
        if not earlier.same:
            raise Problem("key-reused", "this Idempotency-Key was sent with another request.")
        return _known(service, str(earlier.answer))
    service.ledger.new_job(lines.job, lines.count, (repeat.caller, repeat.key, repeat.digest) if repeat else None)
    return _known(service, lines.job)


def _known(service: Service, id: str) -> Job:
    job = service.ledger.job(id)
    if job is None:
        raise Problem("not-found", "there is no such import.")
    return job


@router.get("", response_model=Jobs)
async def latest(request: Request) -> Response:
    """The latest hundred imports, the newest first."""
    service = serving(request)
    return answer(Jobs(imports=await asyncio.to_thread(service.ledger.jobs)))


@router.get("/{job}", response_model=Job)
async def progress(job: JobId, request: Request) -> Response:
    """How far an import is."""
    service = serving(request)
    return answer(await asyncio.to_thread(_known, service, job))


@router.delete("/{job}", response_model=Job)
async def stop(job: JobId, request: Request) -> Response:
    """Stop an import; what is written stays."""
    service = serving(request)
    found = await asyncio.to_thread(service.ledger.cancel, job)
    if found is None:
        raise Problem("not-found", "there is no such import.")
    return answer(found)
