"""The application: endpoints, the gate around them, and what happens when it starts and stops."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from amodal._version import __version__
from amodal.errors import AmodalError
from amodal.service import messages
from amodal.service.answers import invalid
from amodal.service.gate import Gate
from amodal.service.house import Service
from amodal.service.imports import Importer
from amodal.service.observe import Metrics
from amodal.service.pages import pages
from amodal.service.problems import problem_of, respond
from amodal.service.routes import about, imports, items, searches

__all__ = ["create_app"]

_REF = "#/components/schemas/{model}"
_BODIES = (messages.Impute, messages.Explain, messages.NewItem, messages.NewItems, messages.Delete)


def create_app(service: Service) -> FastAPI:
    """The ASGI application of a service, which it closes when it stops.

    Args:
        service: Open.
    """
    app = FastAPI(
        title="amodal", version=__version__, docs_url=None, redoc_url=None, lifespan=_lifespan, redirect_slashes=False
    )
    app.state.service, app.state.metrics = service, Metrics(service)
    for routes in (searches, items, imports, about):
        app.include_router(routes.router)
    app.include_router(pages())
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_middleware(Gate, service=service, metrics=app.state.metrics)
    if service.settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(service.settings.origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Retry-After", "Location"],
        )
    app.openapi = lambda: _schema(app)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    app.state.accepting, app.state.importer = asyncio.Lock(), Importer(service)
    running = [] if service.settings.readonly else [asyncio.create_task(app.state.importer.run())]
    with suppress(NotImplementedError, ValueError, RuntimeError):  # only in a main thread, and not on Windows
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _swap_later, service, running)
    yield
    service.stopping = True
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await asyncio.to_thread(service.close)


def _swap_later(service: Service, running: list[asyncio.Task[None]]) -> None:
    async def swap() -> None:
        log = logging.getLogger("amodal.service")
        try:
            changed, generation = await service.swap()
            log.info("swapped" if changed else "nothing new", extra={"facts": {"generation": generation.id}})
        except AmodalError as error:
            log.error("not swapped", extra={"facts": {"why": str(error)}})

    running.append(asyncio.create_task(swap()))


async def _refused(request: Request, error: Exception) -> Response:
    return respond(problem_of(error), request.state.visit.id)


async def _malformed(request: Request, error: Exception) -> Response:
    told = error.errors() if isinstance(error, RequestValidationError) else []
    return respond(invalid(told), request.state.visit.id)


def _schema(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI schema; bodies are read by the endpoints themselves, so their messages are added here."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        parts = schema.setdefault("components", {}).setdefault("schemas", {})
        _, found = models_json_schema([(model, "validation") for model in _BODIES], ref_template=_REF)
        parts.update(found["$defs"])
        for name, adapter in (("SearchRequest", messages.search_request), ("Line", messages.line)):
            one = adapter.json_schema(ref_template=_REF)
            parts.update(one.pop("$defs", {}))
            parts[name] = one
        parts["Problem"] = messages.ProblemDocument.model_json_schema()
        schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{"key": []}, {}]
        app.openapi_schema = schema
    return app.openapi_schema
