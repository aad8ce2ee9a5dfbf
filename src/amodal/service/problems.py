"""Everything that goes wrong, as a problem document (RFC 9457)."""

from __future__ import annotations

import errno
import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from amodal.errors import AmodalError, IndexMismatch, IndexUnavailable, MethodError, MissingExtra

__all__ = ["KINDS", "MEDIA_TYPE", "Problem", "is_storage", "problem_of", "respond"]

MEDIA_TYPE = "application/problem+json"
RETRY = {"Retry-After": "1"}
_STORAGE = ("08", "53", "57", "58")  # PostgreSQL: connection, resources, intervention, system
_DISK_FULL = "53100"

KINDS: dict[str, tuple[int, str]] = {
    "bad-request": (400, "Bad request"),
    "cursor-invalid": (400, "Not a cursor of this service"),
    "key-needed": (401, "A key is needed"),
    "key-wrong": (401, "The key is not known"),
    "scope-missing": (403, "The key may not do this"),
    "not-found": (404, "Not found"),
    "method-not-allowed": (405, "Method not allowed"),
    "too-slow": (408, "The body took too long to arrive"),
    "exists": (409, "It exists already"),
    "index-mismatch": (409, "Model and index do not belong together"),
    "cursor-expired": (410, "The cursor has expired"),
    "too-large": (413, "Too large"),
    "wrong-media-type": (415, "Wrong media type"),
    "wrong-host": (421, "Asked under a wrong name"),
    "invalid": (422, "Invalid request"),
    "key-reused": (422, "The idempotency key was used for another request"),
    "too-many-requests": (429, "Too many requests"),
    "internal": (500, "Internal error"),
    "not-supported": (501, "Not supported"),
    "unavailable": (503, "Unavailable"),
    "timeout": (504, "It took too long"),
    "disk-full": (507, "No space left"),
}
"""Every kind of problem: its status and its title."""

_OF_STATUS = {status: kind for kind, (status, _) in reversed(KINDS.items())}


class Problem(HTTPException):
    """A refusal, or a failure, that the client is told.

    Args:
        kind: One of ``KINDS``.
        detail: A sentence for people; nothing that they may not know.
        headers: Of the answer.
        errors: Where a body is wrong: mappings of ``where`` and ``what``.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        status, self.title = KINDS[kind]
        self.kind, self.errors = kind, tuple(errors)
        super().__init__(status, detail, dict(headers or {}))

    def document(self, request_id: str) -> dict[str, Any]:
        """The document, as plain values."""
        document = {
            "type": f"urn:amodal:problem:{self.kind}",
            "title": self.title,
            "status": self.status_code,
            "detail": self.detail,
            "request_id": request_id,
        }
        return {**document, "errors": list(self.errors)} if self.errors else document


def respond(problem: Problem, request_id: str) -> Response:
    """The answer that tells a problem."""
    body = json.dumps(problem.document(request_id), ensure_ascii=False, default=str).encode("utf-8", "replace")
    return Response(body, problem.status_code, dict(problem.headers or {}), MEDIA_TYPE)


def problem_of(error: BaseException) -> Problem:
    """What a client is told of an error.

    What went wrong with our own storage or code is for the log: sentences about it may name files of this machine.
    """
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        kind = _OF_STATUS.get(error.status_code, "bad-request" if error.status_code < 500 else "internal")
        return Problem(kind, f"{error.detail}.", headers=error.headers)
    if is_storage(error):
        if _is_full(error):
            return Problem("disk-full", "there is no space left to write to; nothing of this request was written.")
        return Problem("unavailable", "the index or its storage does not answer; try again.", headers=RETRY)
    if isinstance(error, IndexMismatch):
        return Problem("index-mismatch", str(error))
    if isinstance(error, MethodError | MissingExtra):
        return Problem("not-supported", str(error))
    if isinstance(error, AmodalError):
        return Problem("invalid", str(error))
    return Problem("internal", "this was not expected. The log tells more under the request id.")


def is_storage(error: BaseException) -> bool:
    """Whether the index or its storage failed, rather than the request being wrong."""
    return any(
        isinstance(one, IndexUnavailable | sqlite3.Error | OSError | EOFError) or _sqlstate(one)[:2] in _STORAGE
        for one in _causes(error)
    )


def _is_full(error: BaseException) -> bool:
    return any(
        (isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT))
        or (isinstance(one, sqlite3.Error) and getattr(one, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL)
        or _sqlstate(one) == _DISK_FULL
        for one in _causes(error)
    )


def _sqlstate(error: BaseException) -> str:
    """The code that PostgreSQL gives its errors; "" for others."""
    return str(getattr(error, "sqlstate", None) or "")


def _causes(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__
    return chain
