"""Looking at items, and writing them."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import TypeAdapter
from starlette.responses import Response

from amodal.errors import DataError
from amodal.service.answers import PROBLEMS, answer, item_id, once, parsed, repeatable, serving, takes
from amodal.service.generation import Generation
from amodal.service.items import Known, add, checked, delete, imagine, known, lacking, show, write
from amodal.service.messages import Added, Delete, Deleted, Item, NewItem, NewItems, Shown
from amodal.service.problems import Problem
from amodal.service.uploads import thumbnail

__all__ = ["router"]

router = APIRouter(prefix="/v1/items", responses=PROBLEMS, tags=["items"])
ItemId = Annotated[str, Depends(item_id)]
_new_item: TypeAdapter[NewItem] = TypeAdapter(NewItem)
_new_items: TypeAdapter[NewItems] = TypeAdapter(NewItems)
_delete: TypeAdapter[Delete] = TypeAdapter(Delete)


def _found(generation: Generation, id: str) -> Known:
    found = known(generation, id)
    if found is None:
        raise Problem("not-found", f'no item "{id}" is indexed.')
    return found


@router.get("/{id}", response_model=Shown)
async def look(
    id: ItemId,
    request: Request,
    imagine_as: Annotated[str | None, Query(alias="imagine", max_length=256)] = None,
    k: Annotated[int, Query(ge=1, le=100)] = 3,
) -> Response:
    """An item, and what it lacks, suggested."""
    service = serving(request)

    def work(generation: Generation) -> Shown:
        found = _found(generation, id)
        return show(generation, found, imagine(generation, found, imagine_as, k) if imagine_as is not None else None)

    return answer(await service.read(work))


@router.get("/{id}/picture", response_class=Response)
async def picture(
    id: ItemId,
    request: Request,
    modality: Annotated[str | None, Query(max_length=256)] = None,
    number: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    size: Annotated[int, Query(ge=16, le=1024)] = 256,
) -> Response:
    """A picture of an item, made small."""
    service = serving(request)

    def work(generation: Generation) -> bytes:
        name = generation.sole("picture") if modality is None else modality
        recorded = _found(generation, id).part(name, number)
        # words of an item are no file name, whatever they look like
        if recorded is None or generation.kind(name) != "picture":
            raise Problem("not-found", f'item "{id}" has no such picture.')
        try:
            return thumbnail(generation.uploads.find(recorded), size)
        except DataError:
            raise Problem("not-found", f'the picture of item "{id}" cannot be read any more.') from None

    content = await service.read(work)
    tag = f'"{sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, max-age=3600"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type="image/jpeg")


@router.put("/{id}", response_model=Added, openapi_extra=takes("NewItem"))
async def put(id: ItemId, request: Request) -> Response:
    """Write an item, replacing it as a whole."""
    content, body = await parsed(request, _new_item)
    item = Item.model_construct(id=id, **dict(content))
    return await _written(request, body, NewItems.model_construct(mode="upsert", items=[item]))


@router.post("", response_model=Added, openapi_extra=takes("NewItems"))
async def post(request: Request) -> Response:
    """Write some items."""
    asked, body = await parsed(request, _new_items)
    return await _written(request, body, asked)


async def _written(request: Request, body: bytes, asked: NewItems) -> Response:
    service = serving(request)
    again: list[bool] = []
    ids = [item.id for item in asked.items]
    if len(set(ids)) < len(ids):
        twice = next(one for one in ids if ids.count(one) > 1)
        raise Problem("invalid", f'item "{twice}" occurs more than once in one request.')

    def check(generation: Generation, resumed: bool) -> None:
        for item in asked.items:
            checked(generation, item)
        if asked.mode == "add" and not resumed:
            lacking(generation, asked.items)
        again.append(resumed)

    def act(generation: Generation) -> Added:
        if asked.mode == "upsert":
            entries = write(generation, asked.items)
        else:
            entries = add(generation, asked.items, again=again[-1])
        return Added(items=len(asked.items), entries=entries)

    repeat = repeatable(request, sha256(body).digest())
    return Response(await service.write(once(service, repeat, check, act)), media_type="application/json")


@router.delete("/{id}", response_model=Deleted)
async def remove(id: ItemId, request: Request) -> Response:
    """Take an item out."""
    service = serving(request)

    def check(generation: Generation, resumed: bool) -> None:
        if not resumed:
            _found(generation, id)

    def act(generation: Generation) -> Deleted:
        delete(generation, [id])
        return Deleted(items=1)

    repeat = repeatable(request, b"")
    return Response(await service.write(once(service, repeat, check, act)), media_type="application/json")


@router.post("/delete", response_model=Deleted, openapi_extra=takes("Delete"))
async def remove_some(request: Request) -> Response:
    """Take items out; those that are not there are passed over."""
    service = serving(request)
    asked, body = await parsed(request, _delete)

    def act(generation: Generation) -> Deleted:
        return Deleted(items=delete(generation, asked.ids))

    repeat = repeatable(request, sha256(body).digest())
    work = once(service, repeat, lambda generation, resumed: None, act)
    return Response(await service.write(work), media_type="application/json")
