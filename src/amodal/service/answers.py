"""What endpoints share: bodies in, answers out, and writes that may be repeated."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, TypeVar
from urllib.parse import unquote_to_bytes

from fastapi import Path, Request
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_json
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from amodal.service.generation import Generation
from amodal.service.house import Service
from amodal.service.messages import Found, Id
from amodal.service.problems import MEDIA_TYPE, Problem, is_storage

__all__ = [
    "PROBLEMS",
    "Repeatable",
    "answer",
    "invalid",
    "item_id",
    "once",
    "parsed",
    "repeatable",
    "serving",
    "takes",
    "validated",
]

M = TypeVar("M")
_SMALL = 65_536  # bytes that are parsed at once; more are parsed beside other requests
_KEY = re.compile(r"[\x21-\x7e]{1,128}")

PROBLEMS: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "A problem document (RFC 9457)",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}


def serving(request: Request) -> Service:
    """The service that a request is for; asked for in each endpoint, since injecting it takes longer than that."""
    found: Service = request.app.state.service
    return found


def answer(message: BaseModel | Found, status: int = 200, **headers: str) -> Response:
    """An answer in JSON."""
    return Response(to_json(message, inf_nan_mode="null"), status, headers, "application/json")


def takes(name: str, *media_types: str) -> dict[str, Any]:
    """For the OpenAPI schema: the body is a message of this name."""
    schema = {"schema": {"$ref": f"#/components/schemas/{name}"}}
    kinds = media_types or ("application/json",)
    return {"requestBody": {"required": True, "content": dict.fromkeys(kinds, schema)}}


async def parsed(request: Request, adapter: TypeAdapter[M]) -> tuple[M, bytes]:
    """The JSON body of a request, and its bytes.

    Raises:
        Problem: If it is not JSON, or not what the adapter takes.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem("wrong-media-type", "send the body as application/json.")
    try:
        body = await request.body()
    except ClientDisconnect:
        raise Problem("bad-request", "the connection ended before the body did.") from None
    return await validated(body, adapter), body


async def validated(body: bytes, adapter: TypeAdapter[M]) -> M:
    """JSON as a message.

    Raises:
        Problem: If it is none.
    """
    try:
        if len(body) < _SMALL:
            return adapter.validate_json(body)
        return await asyncio.to_thread(adapter.validate_json, body)
    except ValidationError as error:
        raise invalid(error.errors(include_input=False, include_url=False, include_context=False)) from None


def invalid(errors: Any) -> Problem:
    """The problem of a message that is not as it should be; what was sent is not repeated."""
    told = [{"where": ".".join(map(str, one["loc"])) or "body", "what": str(one["msg"])} for one in errors[:20]]
    first = f"{told[0]['where']}: {told[0]['what']}." if told else "the request is not as it should be."
    return Problem("invalid", first, errors=told)


_id: TypeAdapter[str] = TypeAdapter(Id)


async def item_id(id: Annotated[str, Path(description="Percent-encoded as one segment")]) -> str:
    """The id in a path, decoded here and nowhere before."""
    try:
        return _id.validate_python(unquote_to_bytes(id).decode())
    except ValidationError as error:
        raise invalid(error.errors(include_input=False, include_url=False, include_context=False)) from None
    except UnicodeDecodeError:
        raise Problem("invalid", "the id is not UTF-8.") from None


@dataclass(frozen=True)
class Repeatable:
    """A write that may be sent again: who, under which idempotency key, and a digest of what."""

    caller: str
    key: str
    digest: bytes


def repeatable(request: Request, digest: bytes) -> Repeatable | None:
    """Whether a request may be sent again; None without an idempotency key.

    Raises:
        Problem: If the key is not one.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise Problem("bad-request", "an Idempotency-Key has 1 to 128 visible ASCII characters.")
    target = f"{request.method} {request.scope['path']}\n".encode()
    return Repeatable(request.state.visit.caller, key, sha256(target + digest).digest())


def once(
    service: Service,
    repeat: Repeatable | None,
    check: Callable[[Generation, bool], None],
    act: Callable[[Generation], BaseModel],
) -> Callable[[Generation], str]:
    """A write that is done once, however often it is sent.

    Args:
        service: Remembers.
        repeat: Who sends it; None if it cannot be sent again.
        check: Refuses what cannot be done; told whether an earlier attempt was cut off after it had been checked.
        act: Does it, and must do no harm if done again after it was cut off.

    Returns:
        What the writing thread is to do; gives the answer as JSON.
    """

    def work(generation: Generation) -> str:
        if repeat is None:
            check(generation, False)
            return act(generation).model_dump_json()
        earlier = service.ledger.repeat(repeat.caller, repeat.key, repeat.digest)
        if earlier is not None and not earlier.same:
            raise Problem("key-reused", "this Idempotency-Key was sent with another request.")
        if earlier is not None and earlier.answer is not None:
            return earlier.answer
        check(generation, earlier is not None)
        service.ledger.begin(repeat.caller, repeat.key, repeat.digest)
        try:
            told = act(generation).model_dump_json()
        except Exception as error:
            if not is_storage(error):  # of what the storage has written nobody can be sure
                service.ledger.forget(repeat.caller, repeat.key)
            raise
        service.ledger.end(repeat.caller, repeat.key, told)
        return told

    return work
