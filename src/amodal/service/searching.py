"""From a search request to the matches that answer it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np

from amodal.codes import BinaryCodes, Codes, Embeddings
from amodal.errors import ShapeError, UsageError, nearest
from amodal.index.where import check, parse
from amodal.retriever import Match
from amodal.service.cursors import Cursors
from amodal.service.generation import Generation
from amodal.service.messages import (
    ByCursor,
    ByFeatures,
    ById,
    ByPicture,
    ByText,
    ByVector,
    Content,
    Explain,
    Explained,
    Found,
    MatchOut,
    Query,
)
from amodal.service.problems import Problem
from amodal.service.uploads import check_picture

__all__ = ["content_of", "explain", "score_of", "search", "shown"]


def search(generation: Generation, cursors: Cursors, request: Query | ByCursor) -> Found:
    """A page of answers.

    Args:
        generation: What answers.
        cursors: Makes and reads cursors.
        request: One of the kinds of search.

    Raises:
        Problem: If there is no such item, or the cursor cannot be used.
        AmodalError: If the request does not fit the model.
    """
    if isinstance(request, ByCursor):
        place, plan = cursors.read(request.cursor, generation.id)
        return _page(generation, cursors, plan, request.k, place)
    if request.rerank:
        return _reranked(generation, request)
    plan = {
        **_asked(generation, request),
        "into": request.into,
        "where": request.where,
        "radius": _radius(generation, request),
    }
    found = _page(generation, cursors, plan, request.k, None)
    if isinstance(request, ByText):
        asked = dict([_shown_by(generation, request)])
        found.notes += generation.reader.cut_off(asked, rerank=False)
    return found


def _page(
    generation: Generation, cursors: Cursors, plan: Mapping[str, Any], k: int, place: tuple[float, int] | None
) -> Found:
    """The page of a plan, which is what a cursor holds: all of a search except how many."""
    where = None if plan["where"] is None else check(parse(plan["where"]), generation.filterable())
    by: dict[str, Any] = {"id": plan["id"]} if "id" in plan else {"vector": _vector(generation, plan["vector"])}
    matches = generation.reader.search(
        k=k + 1, into=plan["into"], where=where, radius=plan["radius"], after=place, **by
    )
    more, matches = len(matches) > k, matches[:k]
    following = cursors.write(generation.id, matches[-1].place, dict(plan)) if more else None
    return Found(matches=[shown(generation, match) for match in matches], next=following, generation=generation.id)


def _reranked(generation: Generation, request: Query) -> Found:
    """Answers in the order of the matcher; there is no page after them."""
    if generation.reader.reranker is None:
        raise Problem("not-supported", "the model has no matcher that could re-rank; it was fitted without one.")
    by = {"id": request.id} if isinstance(request, ById) else dict([_shown_by(generation, request)])
    _check_item(generation, by.get("id"))
    where = None if request.where is None else check(parse(request.where), generation.filterable())
    notes: list[str] = []
    near = {"into": request.into, "where": where, "radius": _radius(generation, request)}
    matches = generation.rerank(k=request.k, problems=notes, **near, **by)
    return Found([shown(generation, match) for match in matches], None, generation.id, notes)


def explain(generation: Generation, request: Explain) -> Explained:
    """Why an item answers a query.

    Args:
        generation: What answers.
        request: A search by words or a picture, and an item.

    Raises:
        Problem: If the model cannot say, or there is no such item.
        AmodalError: If the request does not fit the model.
    """
    if generation.reader.reranker is None:
        slug = generation.reader.method.card.slug
        raise Problem("not-supported", f"{slug} compares codes and cannot say why two match; only a matcher could.")
    _check_item(generation, request.id)
    notes: list[str] = []
    why = generation.explain(request.id, *_shown_by(generation, request.query), problems=notes)
    return Explained(regions=why.regions, words_of=why.words, notes=notes, **why.as_dict())


def _shown_by(generation: Generation, request: Query | ByCursor) -> tuple[str, Any]:
    """The modality and the content of a search by something that has parts."""
    match request:
        case ByText(text=text, modality=modality):
            return _taking(generation, "text", modality), text
        case ByPicture(picture=picture, modality=modality):
            return _taking(generation, "picture", modality), check_picture(picture)
    raise UsageError("a matcher compares words with regions: ask by text, or by picture.")


def _check_item(generation: Generation, item: Any) -> None:
    if item is not None and not generation.index.count({"item": item}):
        raise Problem("not-found", f'no item "{item}" is indexed.')


def _asked(generation: Generation, request: Query) -> dict[str, Any]:
    """What is searched by, as plain values: an item's id, or a code."""
    match request:
        case ById(id=item):
            _check_item(generation, item)
            return {"id": item}
        case ByVector(vector=vector):
            return {"vector": vector}
        case ByText() | ByPicture():
            modality, content = _shown_by(generation, request)
            codes = generation.encode(content, modality)
        case ByFeatures(modality=modality, features=features):
            codes = generation.encode(np.array(features, np.float32), modality)
        case _:
            raise UsageError(nearest(type(request).__name__, ["text", "picture", "id"], what="kind of search"))
    return {"vector": _plain(codes)}


def _taking(generation: Generation, kind: str, modality: str | None) -> str:
    """The modality that some content is of; words never reach a modality of pictures, which reads files."""
    if modality is None:
        return generation.sole(kind)
    if modality not in generation.widths():
        raise UsageError(nearest(modality, generation.widths(), what="modality"))
    if generation.kind(modality) != kind:
        raise UsageError(f'modality "{modality}" takes {generation.kind(modality)}, not {kind}.')
    return modality


def _plain(codes: Codes) -> str | list[float]:
    """A code as hex, an embedding as numbers."""
    if isinstance(codes, BinaryCodes):
        return str(codes.packed[0].tobytes().hex())
    numbers: list[float] = codes.vectors[0].tolist()
    return numbers


def _vector(generation: Generation, plain: str | list[float]) -> Codes:
    """The inverse of ``_plain``, of any origin."""
    spec = generation.index.spec
    if spec.bits is not None:
        if not isinstance(plain, str) or len(plain) != 2 * spec.width:
            raise ShapeError(f"the index holds codes of {spec.bits} bits; send {2 * spec.width} hexadecimal digits.")
        return BinaryCodes(np.frombuffer(bytes.fromhex(plain), np.uint8)[None], spec.bits)
    if isinstance(plain, str) or len(plain) != spec.dim:
        raise ShapeError(f"the index holds embeddings of width {spec.dim}; send a list of so many numbers.")
    return Embeddings.from_vectors(np.array([plain], np.float32))


def _radius(generation: Generation, request: Query) -> float | None:
    """The nearer of the radius and the distance that the least score allows."""
    if request.min_score is None:
        return request.radius
    bits = generation.index.spec.bits
    # a hair more, so that the score of a match is never below itself by rounding
    reach = (1 - request.min_score) * (2 if bits is None else bits) + 1e-9
    return min(reach, math.inf if request.radius is None else request.radius)


def score_of(generation: Generation, distance: float) -> float:
    """How alike, from 0 to 1: the share of equal bits, or (1 + cosine) / 2."""
    bits = generation.index.spec.bits
    return 1 - distance / (2 if bits is None else bits)


def shown(generation: Generation, match: Match) -> MatchOut:
    """A match as it is answered."""
    return MatchOut(
        id=match.item,
        distance=match.distance,
        score=score_of(generation, match.distance),
        matched=match.score,
        modality=match.modality,
        number=match.number,
        content=content_of(generation, match.item, match.modality, match.number, match.content),
        labels=list(match.labels),
        attributes=match.attributes,
    )


def content_of(generation: Generation, item: str, modality: str, number: int, recorded: str | None) -> Content:
    """What there is to show of an observation: words, or where to get the picture, never where that lies."""
    kind = generation.kind(modality)
    if recorded is None or kind == "features":
        return Content("features")
    if kind == "text":
        return Content("text", text=recorded)
    url = f"/v1/items/{quote(item, safe='')}/picture?modality={quote(modality, safe='')}&number={number}"
    return Content("picture", url=url)
