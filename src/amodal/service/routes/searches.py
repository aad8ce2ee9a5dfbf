"""Searching, imagining, explaining."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request
from pydantic import TypeAdapter
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from amodal.service.answers import PROBLEMS, answer, parsed, serving, takes, validated
from amodal.service.items import impute
from amodal.service.messages import (
    ByCursor,
    ByPicture,
    Explain,
    Explained,
    Found,
    Impute,
    Imputed,
    Query,
    search_request,
)
from amodal.service.problems import Problem
from amodal.service.searching import explain, search

__all__ = ["router"]

router = APIRouter(prefix="/v1", responses=PROBLEMS)
_impute: TypeAdapter[Impute] = TypeAdapter(Impute)
_explain: TypeAdapter[Explain] = TypeAdapter(Explain)
_FORM: dict[str, Any] = {
    "schema": {
        "type": "object",
        "required": ["picture"],
        "properties": {
            "picture": {"type": "string", "format": "binary"},
            "request": {"type": "string", "description": 'As JSON, without the picture: {"by": "picture", "k": 5}'},
        },
    }
}


def _search_body() -> dict[str, Any]:
    body = takes("SearchRequest")
    body["requestBody"]["content"]["multipart/form-data"] = _FORM
    return body


@router.post("/search", response_model=Found, openapi_extra=_search_body(), tags=["search"])
async def find(request: Request) -> Response:
    """The nearest items to words, a picture, an item or a vector."""
    service = serving(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        asked: Query | ByCursor = await _form(request)
    else:
        asked, _ = await parsed(request, search_request)
    return answer(await service.read(lambda generation: search(generation, service.cursors, asked)))


async def _form(request: Request) -> ByPicture:
    """A search by a picture that was uploaded as a file."""
    try:
        async with request.form(max_files=1, max_fields=1) as form:
            picture, text = form.get("picture"), form.get("request", "{}")
            if not isinstance(picture, UploadFile) or not isinstance(text, str):
                raise Problem("invalid", 'send the file in the field "picture", and all else as JSON in "request".')
            content = await picture.read()
    except (MultiPartException, KeyError, ValueError) as error:
        raise Problem("bad-request", f"the form cannot be read ({type(error).__name__}).") from None
    except ClientDisconnect:
        raise Problem("bad-request", "the connection ended before the body did.") from None
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or fields.get("by", "picture") != "picture" or "picture" in fields:
        raise Problem("invalid", 'the field "request" is a JSON object of a search by "picture", without the picture.')
    body = json.dumps({**fields, "by": "picture", "picture": "AAAA"}).encode()
    asked = await validated(body, _by_picture)
    return asked.model_copy(update={"picture": content})


_by_picture: TypeAdapter[ByPicture] = TypeAdapter(ByPicture)


@router.post("/impute", response_model=Imputed, openapi_extra=takes("Impute"), tags=["search"])
async def imagine_side(request: Request) -> Response:
    """A side of an item that need not be indexed, imagined."""
    service = serving(request)
    asked, _ = await parsed(request, _impute)
    return answer(await service.read(lambda generation: impute(generation, asked.item, asked.modality, asked.k)))


@router.post("/explain", response_model=Explained, openapi_extra=takes("Explain"), tags=["search"])
async def why(request: Request) -> Response:
    """Why an item matched, where the model has a matcher."""
    service = serving(request)
    asked, _ = await parsed(request, _explain)
    return answer(await service.read(lambda generation: explain(generation, asked)))
