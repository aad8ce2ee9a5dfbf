"""The page: files read once at the start, and served under headers that forbid everything from elsewhere."""

from __future__ import annotations

import mimetypes
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response

from amodal.service.problems import Problem

__all__ = ["POLICY", "pages"]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing inline, nothing from elsewhere, no text ever becomes markup or code; pictures that need a key are fetched and
shown as blobs."""
_FOLDER = Path(__file__).parent / "page"


def pages(folder: Path = _FOLDER) -> APIRouter:
    """Serves ``index.html`` at ``/`` and all files of a folder at ``/page/<name>``.

    Args:
        folder: Is read now and not again, so no request reaches the file system.
    """
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
    router = APIRouter(include_in_schema=False)

    def served(name: str, request: Request) -> Response:
        if name not in files:
            raise Problem("not-found", "there is no such page.")
        tag = f'"{sha256(files[name]).hexdigest()[:32]}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(files[name], headers=headers, media_type=kind)

    @router.get("/")
    async def front(request: Request) -> Response:
        return served("index.html", request)

    @router.get("/page/{name}")
    async def file(name: str, request: Request) -> Response:
        return served(name, request)

    return router
