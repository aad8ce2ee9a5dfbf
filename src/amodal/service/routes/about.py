"""What answers: the model, the index, whether it is well; and letting another model answer."""

from __future__ import annotations

import logging

from fastapi import APIRouter, Request
from starlette.responses import Response

from amodal.errors import AmodalError
from amodal.service.answers import PROBLEMS, answer, serving
from amodal.service.generation import Generation
from amodal.service.messages import IndexInfo, ModalityInfo, ModelInfo, Swapped, Well
from amodal.service.problems import Problem, problem_of

__all__ = ["router"]

router = APIRouter(responses=PROBLEMS, tags=["about"])
_log = logging.getLogger("amodal.service")


@router.get("/v1/model", response_model=ModelInfo)
async def model(request: Request) -> Response:
    """What the model is and takes."""
    service = serving(request)
    generation = service.generation
    method = generation.reader.method
    return answer(
        ModelInfo(
            method=method.card.slug,
            name=method.card.name,
            summary=method.card.summary,
            fingerprint=generation.id,
            imputes=method.card.imputes,
            explains=generation.reader.reranker is not None,
            modalities={
                name: ModalityInfo.model_validate({"kind": generation.kind(name), "width": width})
                for name, width in generation.widths().items()
            },
            classes=list(method.classes_),
            generation=generation.id,
            loaded=generation.loaded,
        )
    )


@router.get("/v1/index", response_model=IndexInfo)
async def index(request: Request) -> Response:
    """What the index holds."""
    service = serving(request)

    def work(generation: Generation) -> IndexInfo:
        found = generation.index
        return IndexInfo(
            kind=found.spec.kind,
            bits=found.spec.bits,
            dim=found.spec.dim,
            entries=found.count(),
            exact=found.exact,
            writable=generation.writer is not None,
            attributes=generation.filterable(),
        )

    return answer(await service.read(work))


@router.post("/v1/admin/swap", response_model=Swapped)
async def swap(request: Request) -> Response:
    """Let the model and the index that now lie at their paths answer."""
    service = serving(request)
    try:
        changed, generation = await service.swap()
    except AmodalError as error:  # whose sentence names places of this machine
        request_id = request.state.visit.id
        _log.warning("not swapped", extra={"facts": {"request_id": request_id, "why": str(error)}})
        sentence = "what lies at the paths of this service cannot answer, and what answered goes on; the log says why."
        raise Problem(problem_of(error).kind, sentence) from None
    return answer(Swapped(swapped=changed, generation=generation.id))


@router.get("/health", response_model=Well)
async def health() -> Response:
    """Whether the process answers."""
    return answer(Well(status="ok"))


@router.get("/ready", response_model=Well)
async def ready(request: Request) -> Response:
    """Whether it can search."""
    service = serving(request)
    if service.stopping:
        raise Problem("unavailable", "the service is stopping.")
    await service.read(lambda generation: generation.index.get([0]))
    return answer(Well(status="ok"))


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """For Prometheus."""
    service = serving(request)
    text = await service.read(lambda _: request.app.state.metrics.text())
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")
