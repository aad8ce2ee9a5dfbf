"""A retriever over HTTP: search, items, imports and a page, as docs/service.md describes.

    service = Service.open(Settings(model=Path("shop.amodal")))
    app = create_app(service)                    # any ASGI server can run it; ``serve`` does with uvicorn

One process serves: any number of searches side by side, and one writer after another. Needs the extra ``service``.
"""

from amodal.service.settings import Settings

__all__ = ["Settings"]
