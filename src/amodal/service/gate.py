"""What every request passes on its way in and out: name, key, rate, size, time; request id, log, metrics, problems."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from amodal.errors import AmodalError
from amodal.service.house import Service
from amodal.service.keys import Key
from amodal.service.limits import RateLimit
from amodal.service.observe import Metrics
from amodal.service.problems import Problem, problem_of, respond

__all__ = ["Gate"]

OPEN = ("/", "/health", "/ready")
ASKING = ("/v1/search", "/v1/impute", "/v1/explain")  #: POST, and yet nothing is changed
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass
class _Visit:
    """One request on its way."""

    id: str
    method: str
    path: str
    begun: float = field(default_factory=time.perf_counter)
    caller: str = "-"
    status: int = 0


class Gate:
    """ASGI middleware around the whole application.

    Args:
        app: The application.
        service: Knows keys and limits.
        metrics: Are told of every request.
    """

    def __init__(self, app: ASGIApp, service: Service, metrics: Metrics) -> None:
        self._app, self._service, self._metrics = app, service, metrics
        self._limit = RateLimit()
        self._log = logging.getLogger("amodal.service")
        names = {"localhost", "127.0.0.1", "::1", service.settings.host, *service.settings.hosts}
        self._hosts = {name.lower() for name in names} if service.settings.loopback else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        asked = headers.get("x-request-id", "")
        # as it was sent: so that an id with %2F stays one segment, decoded once and by us alone
        path = scope.get("raw_path", b"").split(b"?")[0].decode("ascii", "replace") or scope["path"]
        visit = _Visit(asked if _REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex, scope["method"], path)
        scope = {**scope, "path": path, "state": {**scope.get("state", {}), "visit": visit}}
        self._metrics.under_way.inc()
        try:
            await self._pass(scope, headers, receive, _Sending(send, visit), visit)
        finally:
            self._metrics.under_way.dec()
            self._note(scope, visit)

    async def _pass(self, scope: Scope, headers: Headers, receive: Receive, send: _Sending, visit: _Visit) -> None:
        try:
            self._check_host(headers)
            self._check_key(scope, headers, visit)
            await self._app(scope, _Bounded(receive, self._bound(visit), headers, self._service.settings.timeout), send)
        except Exception as error:  # whatever it is, the client gets a problem, and the service stays up
            problem = problem_of(error)
            if problem.status_code >= 500 and not isinstance(error, Problem):
                facts = {"request_id": visit.id, "status": problem.status_code}
                self._log.error("failed", exc_info=error, extra={"facts": facts})
            if not visit.status:  # else a part of an answer is out already, and the server closes the connection
                await respond(problem, visit.id)(scope, receive, send)

    def _bound(self, visit: _Visit) -> int:
        settings = self._service.settings
        return settings.max_import if visit.path == "/v1/imports" else settings.max_body

    def _check_host(self, headers: Headers) -> None:
        """On loopback a request under another name comes from a page elsewhere whose name was made to lead here."""
        host = (
            headers.get("host", "").rpartition(":")[0]
            if _has_port(headers.get("host", ""))
            else headers.get("host", "")
        )
        if self._hosts is not None and host.strip("[]").lower() not in self._hosts:
            raise Problem("wrong-host", "this service is for this machine; allow further names with --allow-host.")

    def _check_key(self, scope: Scope, headers: Headers, visit: _Visit) -> None:
        if visit.path in OPEN or visit.path.startswith("/page/"):
            return
        key = self._key(headers)
        if key is None:
            visit.caller = "local"
            caller, rate = str((scope.get("client") or ("local",))[0]), self._service.settings.rate
        else:
            visit.caller = caller = key.id
            rate = self._service.settings.rate if key.rate is None else key.rate
            writes = visit.method not in ("GET", "HEAD") and visit.path not in ASKING
            if writes and key.scope != "write":
                raise Problem("scope-missing", "this key may read only.")
        if seconds := self._limit.wait(caller, rate):
            again = {"Retry-After": str(int(seconds) + 1)}
            raise Problem("too-many-requests", f"at most {rate:g} requests per second.", headers=again)

    def _key(self, headers: Headers) -> Key | None:
        """The key of a request; None if none is needed."""
        ring, challenge = self._service.keys, {"WWW-Authenticate": "Bearer"}
        try:
            if not ring.needed:
                return None
            scheme, _, presented = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer":
                raise Problem("key-needed", "send a key as Authorization: Bearer ...", headers=challenge)
            key = ring.find(presented.strip())
        except AmodalError as error:
            self._log.error("keys cannot be read", exc_info=error)
            raise Problem("unavailable", "the keys cannot be read.") from error
        if key is None:
            raise Problem("key-wrong", "this key is not known, or was revoked.", headers=challenge)
        return key

    def _note(self, scope: Scope, visit: _Visit) -> None:
        route = getattr(scope.get("route"), "path", "other")
        seconds, method = time.perf_counter() - visit.begun, visit.method if visit.method in _METHODS else "other"
        self._metrics.requests.labels(route, method, str(visit.status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        facts = {
            "request_id": visit.id,
            "method": method,
            "route": route,
            "status": visit.status,
            "ms": round(1000 * seconds, 2),
            "key": visit.caller,
        }
        self._log.info("request", extra={"facts": facts})


_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")


def _has_port(host: str) -> bool:
    return bool(re.search(r"(\]|^[^:]*):\d*$", host))


class _Sending:
    """Adds the headers that every answer has, and remembers the status."""

    def __init__(self, send: Send, visit: _Visit) -> None:
        self._send, self._visit = send, visit

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._visit.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self._visit.id
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
        await self._send(message)


class _Bounded:
    """Receives a body that is neither too large nor too slow."""

    def __init__(self, receive: Receive, most: int, headers: Headers, seconds: float) -> None:
        self._receive, self._most, self._seconds = receive, most, seconds
        self._announced = int(length) if (length := headers.get("content-length", "0")).isdecimal() else 0
        self._received, self._ended = 0, False

    async def __call__(self) -> Any:
        if self._ended:
            return await self._receive()  # waits for the client to leave
        if self._announced > self._most:
            raise Problem("too-large", f"a body has at most {self._most} bytes here.")
        try:
            async with asyncio.timeout(self._seconds):
                message = await self._receive()
        except TimeoutError:
            raise Problem("too-slow", f"nothing came for {self._seconds:g} seconds.") from None
        self._received += len(message.get("body", b""))
        self._ended = not message.get("more_body", False)
        if self._received > self._most:
            raise Problem("too-large", f"a body has at most {self._most} bytes here.")
        return message
